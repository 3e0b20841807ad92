-- A bill: adds the work to the caller's account, if it exists, and an entry to the log; updates the evidence of accounts;
-- adjusts the caller's standing; and deletes what is old. Returns 1 if there may be more to delete, else 0.
-- KEYS: the log, the ranking, the number of the log's last line, the caller's standing; then the accounts to change, first the
-- caller's.
-- ARGV: the changes of these accounts, packed; the account's member in the ranking; what is added to the unsettled and to the
-- prepaid work, or two empty strings; the seconds for which a standing is stored; the most lines to delete, or an empty string
-- for none; the time before which lines are to be deleted, or an empty string; the prefix of an account's key, before its
-- member; the tariff of each change; then the fields and values of the line, of which the first is its time.
-- A change has the work in seconds and, for an update, the logarithm of the evidence and the blocks to add: each its restart
-- from 0, its number and its term.
local ACCOUNTS, TARIFFS, PAGE = 4, 8, 100 -- keys and arguments before these; lines that are read at once
local changes = cmsgpack.unpack(ARGV[1]) -- does not accept, in some versions, long texts
local most, lines_before, prefix = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

-- evidence_math.add_logs; none stands for minus infinity.
local function add_logs(one, other)
    if not one or other == -math.huge then
        return other ~= -math.huge and other or one
    end
    local high, low = math.max(one, other), math.min(one, other)
    if low - high < -700 then
        return high
    end
    return high + math.log(1 + math.exp(low - high))
end

-- account_math.updated for an account of the update's tariff.
local function update(account, change)
    account.log_evidence = change.log_evidence
    for _, block in ipairs(change.folded) do
        local index = block[1] + 1
        if account.finished_numbers and account.finished_numbers[index] == block[2] then
            account.finished_numbers[index], account.finished[index] = 0, {}
            account.finished_log = add_logs(account.finished_log, block[3])
        end
    end
end

for place, change in ipairs(changes) do
    local kept = redis.call("GET", KEYS[ACCOUNTS + place])
    if kept then
        local account = cmsgpack.unpack(kept)
        account.work = account.work + change.seconds
        if change.log_evidence and account.tariff == ARGV[TARIFFS + place] then
            update(account, change)
        end
        redis.call("SET", KEYS[ACCOUNTS + place], cmsgpack.pack(account), "KEEPTTL")
        if place == 1 then -- the largest work is first
            redis.call("ZADD", KEYS[2], "XX", string.format("%.17g", -account.work), ARGV[2])
        end
    end
end

if ARGV[3] ~= "" then -- settlement_math.adjust
    local kept = redis.call("GET", KEYS[4])
    local standing = kept and cmsgpack.unpack(kept)
        or {unsettled = 0, prepaid = 0, new_account = 0, settled_rows = 0, drained = 0}
    standing.unsettled = math.max(0, standing.unsettled + tonumber(ARGV[3]))
    standing.prepaid = math.max(0, standing.prepaid + tonumber(ARGV[4]))
    redis.call("SET", KEYS[4], cmsgpack.pack(standing), "EX", ARGV[5])
end

local line = redis.call("INCR", KEYS[3])
redis.call("XADD", KEYS[1], string.format("%.0f-0", line), unpack(ARGV, TARIFFS + #changes + 1))

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
