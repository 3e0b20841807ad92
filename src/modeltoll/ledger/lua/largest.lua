-- The accounts of the first members of a ranking, packed, in descending order of work. Members whose account has expired
-- are passed over.
-- KEYS: the ranking. ARGV: the number of accounts; the prefix of an account's key, before its member.
local PAGE = 1000
local limit, accounts, start = tonumber(ARGV[1]), {}, 0
while #accounts < limit do
    local members = redis.call("ZRANGE", KEYS[1], string.format("%.0f", start), string.format("%.0f", start + PAGE - 1))
    for _, member in ipairs(members) do
        local account = #accounts < limit and redis.call("GET", ARGV[2] .. member)
        if account then
            accounts[#accounts + 1] = account
        end
    end
    if #members < PAGE then
        break
    end
    start = start + PAGE
end
return accounts
