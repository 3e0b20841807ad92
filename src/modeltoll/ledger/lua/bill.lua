-- A bill: adds the work to the account, if it exists, and an entry to the log; adjusts the caller's standing; and deletes
-- what is old. Returns 1 if there may be more to delete, else 0.
-- KEYS: the log, the ranking, the account, the number of the log's last line, the caller's standing.
-- ARGV: the work in seconds; the account's member in the ranking; what is added to the unsettled and to the prepaid work, or
-- two empty strings; the seconds for which a standing is stored; the most lines to delete, or an empty string for none;
-- the time before which lines are to be deleted, or an empty string; the prefix of an account's key, before its member; then
-- the fields and values of the line, of which the first is its time.
local FIXED, PAGE = 8, 100 -- arguments before the fields; lines that are read at once
local most, lines_before, prefix = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

local kept = redis.call("GET", KEYS[3])
if kept then
    local account = cmsgpack.unpack(kept)
    account.work = account.work + tonumber(ARGV[1])
    redis.call("SET", KEYS[3], cmsgpack.pack(account), "KEEPTTL")
    redis.call("ZADD", KEYS[2], "XX", string.format("%.17g", -account.work), ARGV[2]) -- the largest work is first
end

if ARGV[3] ~= "" then -- settlement_math.adjust
    kept = redis.call("GET", KEYS[5])
    local standing = kept and cmsgpack.unpack(kept)
        or {unsettled = 0, prepaid = 0, new_account = 0, settled_rows = 0, drained = 0}
    standing.unsettled = math.max(0, standing.unsettled + tonumber(ARGV[3]))
    standing.prepaid = math.max(0, standing.prepaid + tonumber(ARGV[4]))
    redis.call("SET", KEYS[5], cmsgpack.pack(standing), "EX", ARGV[5])
end

local line = redis.call("INCR", KEYS[4])
redis.call("XADD", KEYS[1], string.format("%.0f-0", line), unpack(ARGV, FIXED + 1))

-- Deletes the oldest lines, up to the first one that is recent enough, and never the last. Returns how many it looked at.
local function trim()
    local start, seen, keep = "-", 0, nil
    while seen < most do
        local page = redis.call("XRANGE", KEYS[1], start, "+", "COUNT", math.min(PAGE, most - seen))
        for _, entry in ipairs(page) do
            seen = seen + 1
            keep = entry[1]
            if tonumber(entry[2][2]) >= lines_before then
                redis.call("XTRIM", KEYS[1], "MINID", keep)
                return seen
            end
        end
        if #page < PAGE then
            break
        end
        start = "(" .. keep
    end
    if keep then
        redis.call("XTRIM", KEYS[1], "MINID", keep)
    end
    return seen
end

-- Accounts expire by themselves; takes those that did out of a random part of the ranking. Returns how many it found.
local function forget()
    local expired = 0
    for _, member in ipairs(redis.call("ZRANDMEMBER", KEYS[2], most)) do
        if redis.call("EXISTS", prefix .. member) == 0 then
            redis.call("ZREM", KEYS[2], member)
            expired = expired + 1
        end
    end
    return expired
end

local more = false
if most then
    more = lines_before ~= nil and trim() >= most
    more = forget() >= most / 2 or more
end
return more and 1 or 0
