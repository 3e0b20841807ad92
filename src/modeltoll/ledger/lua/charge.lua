-- A charge: account_math.charge for the caller and each of its groups, in one step. Returns the accounts after it, packed.
-- KEYS: the ranking, then each account and its sketch.
-- ARGV: the charge's numbers, packed; its fingerprints, concatenated; its model; its tariff; the half-life in seconds; the
-- size of a sketch; the seconds for which an account is stored after its last charge; the caller's member in the ranking,
-- or an empty string for none; then the name of each account.
local FINGERPRINT, FIXED = 8, 8 -- bytes of a fingerprint; arguments before the names
local entry = cmsgpack.unpack(ARGV[1]) -- does not accept bytes nor, in some versions, long texts
local fingerprints, model, tariff = ARGV[2], ARGV[3], ARGV[4]
local half_life, sketch_size, lifetime, member = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local measures, width = entry.shape[1], entry.shape[2]

-- The rows whose fingerprints are not in the sketch, a set sorted by insertion, to which they are added.
local function learn(account, sketch)
    local fresh = {}
    local met = {}
    for row = 1, entry.rows do
        local fingerprint = string.sub(fingerprints, FINGERPRINT * (row - 1) + 1, FINGERPRINT * row)
        if not met[fingerprint] and not redis.call("ZSCORE", sketch, fingerprint) then
            fresh[#fresh + 1] = {row = row, fingerprint = fingerprint}
        end
        met[fingerprint] = true
    end
    for _, first in ipairs(fresh) do
        account.learned = account.learned + 1
        redis.call("ZADD", sketch, account.learned, first.fingerprint)
    end
    if #fresh > 0 then
        redis.call("ZREMRANGEBYRANK", sketch, 0, -1 - sketch_size)
    end
    return fresh
end

local function start(account)
    account.tariff, account.measures, account.leaks, account.counts = tariff, measures, {}, {}
    for place = 1, #entry.leaks do
        account.leaks[place] = 0
    end
    for place = 1, measures * width do
        account.counts[place] = 0
    end
end

local function fade(account)
    local share = 0.5 ^ (math.max(0, entry.at - account.last_seen) / half_life)
    if share < 1 then
        for place, count in ipairs(account.counts) do
            account.counts[place] = count * share
        end
    end
end

local function charge(account_key, sketch, name)
    local kept = redis.call("GET", account_key)
    local account
    if kept then
        account = cmsgpack.unpack(kept)
    else
        account = {caller = name, model = model, rows = 0, requests = 0, work = 0, learned = 0}
        account.first_seen, account.last_seen = entry.at, entry.at
    end
    if account.tariff == tariff and account.measures == measures and #account.leaks == #entry.leaks
        and #account.counts == measures * width then
        fade(account)
    else
        start(account)
    end
    account.rows = account.rows + entry.rows
    account.requests = account.requests + 1
    account.last_seen = math.max(account.last_seen, entry.at)
    for place, leak in ipairs(entry.leaks) do
        account.leaks[place] = account.leaks[place] + leak
    end
    for _, first in ipairs(learn(account, sketch)) do
        for measure, bin in ipairs(entry.bins[first.row]) do
            local place = (measure - 1) * width + bin + 1
            account.counts[place] = account.counts[place] + 1
        end
    end
    local after = cmsgpack.pack(account)
    redis.call("SET", account_key, after, "EX", lifetime)
    redis.call("EXPIRE", sketch, lifetime)
    return after
end

local accounts = {}
for party = 1, #ARGV - FIXED do
    accounts[party] = charge(KEYS[2 * party], KEYS[2 * party + 1], ARGV[FIXED + party])
end
if member ~= "" then
    redis.call("ZADD", KEYS[1], "NX", 0, member)
end
return accounts
