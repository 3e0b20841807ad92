-- A bill: the work is added to the account, where it is known, and a line to the log. Returns the line's number.
-- KEYS: the log, the ranking, the account. ARGV: the work in seconds, the account's member in the ranking, then the
-- line's fields and values.
local kept = redis.call("GET", KEYS[3])
if kept then
    local account = cmsgpack.unpack(kept)
    account.work = account.work + tonumber(ARGV[1])
    redis.call("SET", KEYS[3], cmsgpack.pack(account))
    redis.call("ZADD", KEYS[2], "XX", string.format("%.17g", -account.work), ARGV[2]) -- the most work comes first
end
local last = redis.call("XREVRANGE", KEYS[1], "+", "-", "COUNT", 1)
local line = 1
if last[1] then
    line = tonumber(string.match(last[1][1], "^%d+")) + 1
end
redis.call("XADD", KEYS[1], string.format("%.0f-0", line), unpack(ARGV, 3))
return line
