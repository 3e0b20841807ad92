-- Deletes an account, its sketch and its place in the ranking; returns the number of deleted accounts, 0 or 1.
-- KEYS: the ranking, the account, its sketch. ARGV: the account's member in the ranking.
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("DEL", KEYS[3])
return redis.call("DEL", KEYS[2])
