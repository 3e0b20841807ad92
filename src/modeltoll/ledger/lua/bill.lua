-- A bill: adds the work to the account, if it exists, and an entry to the log. Returns the line's number.
-- KEYS: the log, the ranking, the account, the number of the log's last line. ARGV: the work in seconds; the account's
-- member in the ranking; the time before which lines are to be deleted, or an empty string; the most lines to delete; then
-- the fields and values of the line, of which the first is its time.
local kept = redis.call("GET", KEYS[3])
if kept then
    local account = cmsgpack.unpack(kept)
    account.work = account.work + tonumber(ARGV[1])
    redis.call("SET", KEYS[3], cmsgpack.pack(account))
    redis.call("ZADD", KEYS[2], "XX", string.format("%.17g", -account.work), ARGV[2]) -- the largest work is first
end
local line = redis.call("INCR", KEYS[4])
redis.call("XADD", KEYS[1], string.format("%.0f-0", line), unpack(ARGV, 5))

if ARGV[3] ~= "" then -- delete the oldest lines, up to the first one that is recent enough, and never the last
    local oldest = redis.call("XRANGE", KEYS[1], "-", "+", "COUNT", ARGV[4])
    for place, kept in ipairs(oldest) do
        if place == #oldest or tonumber(kept[2][2]) >= tonumber(ARGV[3]) then
            redis.call("XTRIM", KEYS[1], "MINID", kept[1])
            break
        end
    end
end
return line
