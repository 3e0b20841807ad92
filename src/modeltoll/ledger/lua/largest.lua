-- The accounts of the first members of a ranking, packed, in descending order of work.
-- KEYS: the ranking. ARGV: the last place, counted from 0; the prefix of an account's key, before its member.
local accounts = {}
for place, member in ipairs(redis.call("ZRANGE", KEYS[1], 0, ARGV[1])) do
    accounts[place] = redis.call("GET", ARGV[2] .. member)
end
return accounts
