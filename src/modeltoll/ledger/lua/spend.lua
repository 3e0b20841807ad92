-- account_math.spend: adds to the caller's usage of the day if the quota covers it. Returns 1, or 0.
-- KEYS: the caller's day. ARGV: day, rows and work to add; the limits of rows and of work, or empty strings for none; the
-- seconds for which the day is stored.
local day, rows, work = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local had = redis.call("HMGET", KEYS[1], "day", "rows", "work")
local had_rows, had_work = 0, 0
if had[1] and tonumber(had[1]) >= day then
    day, had_rows, had_work = tonumber(had[1]), tonumber(had[2]), tonumber(had[3])
end
if (ARGV[4] ~= "" and had_rows + rows > tonumber(ARGV[4])) or (ARGV[5] ~= "" and had_work >= tonumber(ARGV[5])) then
    return 0
end
redis.call("HSET", KEYS[1], "day", string.format("%.0f", day), "rows", string.format("%.0f", had_rows + rows),
    "work", string.format("%.17g", had_work + work))
redis.call("EXPIRE", KEYS[1], ARGV[6])
return 1
