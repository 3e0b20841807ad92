-- Marks a ledger, and returns what it is marked as: program, version, salt. Writes in any case, so that a server which
-- takes no writes is found out. Nothing is changed where something else has the key.
-- KEYS: the mark. ARGV: program, version, a salt of 32 random bytes for a new ledger, the time in seconds.
local kind = redis.call("TYPE", KEYS[1]).ok
if kind ~= "none" and kind ~= "hash" then
    return {"", "0", ""}
end
if kind == "none" then
    redis.call("HSET", KEYS[1], "program", ARGV[1], "version", ARGV[2], "salt", ARGV[3])
end
if redis.call("HGET", KEYS[1], "program") ~= ARGV[1] then
    return {"", "0", ""}
end
redis.call("HINCRBY", KEYS[1], "opened", 1)
return redis.call("HMGET", KEYS[1], "program", "version", "salt")
