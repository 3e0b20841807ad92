-- Deletes an account, its sketch and its place in the ranking, and the caller's standing; returns the number of deleted
-- accounts, 0 or 1.
-- KEYS: the ranking, the account, its sketch, the standing. ARGV: the account's member in the ranking.
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("DEL", KEYS[3], KEYS[4])
return redis.call("DEL", KEYS[2])
