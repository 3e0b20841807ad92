-- Marks a new ledger, and returns its mark: program, version, salt. An older version becomes this one, whose values can be
-- read beside those of older ones. Always writes, so that a read-only server is detected.
-- Changes nothing if the key holds something else.
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
if tonumber(redis.call("HGET", KEYS[1], "version")) < tonumber(ARGV[2]) then
    redis.call("HSET", KEYS[1], "version", ARGV[2])
end
redis.call("HINCRBY", KEYS[1], "opened", 1)
return redis.call("HMGET", KEYS[1], "program", "version", "salt")
