-- settlement_math.settle, with its expressions in the same order, so that each double is the same. Returns whether the
-- request is admitted, the settled rows, and seconds: from credit, from prepaid, missing, missing of the new-account toll.
-- KEYS: the caller's standing; the receipts, which have not expired.
-- ARGV: the time; the seconds for which a standing is stored; the reservation's seconds, credit, new-account toll and its
-- share, or four empty strings for none; then for each receipt the seconds for which it stays counted, and its unsettled
-- work, rows, prepaid work and new-account toll.
local DAY, ROUNDING, FIXED, PER_RECEIPT = 86400, 1e-9, 6, 5
local at, lifetime = tonumber(ARGV[1]), ARGV[2]
local seconds, credit, toll, share = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local kept = redis.call("GET", KEYS[1])
local standing
if kept then
    standing = cmsgpack.unpack(kept)
    if seconds then
        local idle = math.max(0, at - standing.drained)
        standing.unsettled = math.max(0, standing.unsettled - credit * (idle / DAY))
        standing.drained = math.max(at, standing.drained)
    end
else
    standing = {unsettled = 0, prepaid = 0, new_account = 0, settled_rows = 0, drained = at}
end

local paid_before, fresh = standing.new_account, false
for place = 2, #KEYS do
    local first = FIXED + PER_RECEIPT * (place - 2)
    if redis.call("SET", KEYS[place], "", "EX", ARGV[first + 1], "NX") then
        fresh = true
        standing.unsettled = math.max(0, standing.unsettled - tonumber(ARGV[first + 2]))
        standing.settled_rows = standing.settled_rows + tonumber(ARGV[first + 3])
        standing.prepaid = standing.prepaid + tonumber(ARGV[first + 4])
        standing.new_account = standing.new_account + tonumber(ARGV[first + 5])
    end
end

local admitted, from_credit, from_prepaid, missing, missing_new_account = true, 0, 0, 0, 0
if seconds then
    local owed = math.min(math.max(0, toll - paid_before), share * toll)
    local lacking = owed - (standing.new_account - paid_before)
    if lacking > ROUNDING * toll then
        missing_new_account = lacking
    end
    local prepaid = math.min(standing.prepaid, seconds)
    local rest = seconds - prepaid
    lacking = math.min(rest, rest + standing.unsettled - credit)
    if lacking > ROUNDING * (seconds + credit) then
        missing = lacking
    end
    admitted = missing == 0 and missing_new_account == 0
    if admitted then
        from_credit, from_prepaid = rest, prepaid
        standing.unsettled = standing.unsettled + from_credit
        standing.prepaid = standing.prepaid - from_prepaid
    end
end
if fresh or (admitted and seconds) then
    redis.call("SET", KEYS[1], cmsgpack.pack(standing), "EX", lifetime)
end

local function exact(number)
    return string.format("%.17g", number)
end
return {
    admitted and 1 or 0, exact(standing.settled_rows),
    exact(from_credit), exact(from_prepaid), exact(missing), exact(missing_new_account),
}
