-- A charge: account_math.charge for the caller and each of its groups, in one step. Returns the accounts after it, packed.
-- KEYS: the ranking, then each account and its sketch.
-- ARGV: the charge's numbers, packed; its fingerprints, concatenated; its model; its tariff; the seconds after which evidence
-- starts anew; the size of a sketch; the seconds for which an account is stored after its last charge; the caller's member in
-- the ranking, or an empty string for none; then the name of each account.
local FINGERPRINT, FIXED = 8, 8 -- bytes of a fingerprint; arguments before the names
local entry = cmsgpack.unpack(ARGV[1]) -- does not accept bytes nor, in some versions, long texts
local fingerprints, model, tariff = ARGV[2], ARGV[3], ARGV[4]
local period, sketch_size, lifetime, member = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]

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

local function filled(length, value)
    local array = {}
    for place = 1, length do
        array[place] = value
    end
    return array
end

-- An account without evidence. counted: the sum of its counts; block_rows: that of each current block. Of blocks that wait
-- there are the numbers, 0 for none, and the counts.
local function clear(account, cells, since)
    local restarts = #entry.sizes
    account.counts, account.counted, account.blocks = filled(cells, 0), 0, {}
    account.numbers, account.block_rows = filled(restarts, 1), filled(restarts, 0)
    account.finished, account.finished_numbers = filled(restarts, {}), filled(restarts, 0)
    account.since, account.finished_log = since, nil
    for restart = 1, restarts do
        account.blocks[restart] = filled(cells, 0)
    end
end

-- evidence_math.restarted for evidence that does not go on.
local function restart(account)
    local carried
    if entry.at - account.since < period and (account.counted > 0 or account.carried_log) then
        carried = account.log_evidence
    end
    clear(account, entry.cell_count, entry.at)
    account.carried_log, account.log_evidence = carried, carried or 0
end

local function end_blocks(account)
    for index, size in ipairs(entry.sizes) do
        if account.finished_numbers[index] == 0 and account.block_rows[index] >= size then
            account.finished[index], account.finished_numbers[index] = account.blocks[index], account.numbers[index]
            account.blocks[index], account.block_rows[index] = filled(entry.cell_count, 0), 0
            account.numbers[index] = account.numbers[index] + 1
        end
    end
end

local function count(account, fresh)
    for _, first in ipairs(fresh) do
        local place = entry.cells[first.row] + 1
        account.counts[place] = account.counts[place] + 1
        for _, block in ipairs(account.blocks) do
            block[place] = block[place] + 1
        end
    end
    account.counted = account.counted + #fresh
    for index, rows in ipairs(account.block_rows) do
        account.block_rows[index] = rows + #fresh
    end
    end_blocks(account)
end

local function stored(account_key, name)
    local kept = redis.call("GET", account_key)
    if not kept then
        local account = {caller = name, model = model, rows = 0, requests = 0, work = 0, learned = 0}
        account.first_seen, account.last_seen = entry.at, entry.at
        account.leaks, account.log_evidence = {}, 0
        clear(account, 0, entry.at)
        return account
    end
    local account = cmsgpack.unpack(kept)
    if account.measures then -- of an earlier version, whose counts are dropped
        account.measures, account.log_evidence = nil, 0
        clear(account, 0, account.last_seen)
    end
    return account
end

local function charge(account_key, sketch, name)
    local account = stored(account_key, name)
    if account.tariff == tariff and #account.counts == entry.cell_count and #account.leaks == #entry.leaks then
        if entry.at - account.since >= period then
            restart(account)
        end
    else
        restart(account)
        account.tariff, account.leaks = tariff, filled(#entry.leaks, 0)
    end
    account.rows = account.rows + entry.rows
    account.requests = account.requests + 1
    account.last_seen = math.max(account.last_seen, entry.at)
    for place, leak in ipairs(entry.leaks) do
        account.leaks[place] = account.leaks[place] + leak
    end
    local fresh = learn(account, sketch)
    if entry.cell_count > 0 then
        count(account, fresh)
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
