-- settlement_math.adjust. KEYS: the caller's standing. ARGV: what is added to the unsettled and to the prepaid work, in
-- seconds; the seconds for which a standing is stored.
local kept = redis.call("GET", KEYS[1])
local standing = kept and cmsgpack.unpack(kept)
    or {unsettled = 0, prepaid = 0, new_account = 0, settled_rows = 0, drained = 0}
standing.unsettled = math.max(0, standing.unsettled + tonumber(ARGV[1]))
standing.prepaid = math.max(0, standing.prepaid + tonumber(ARGV[2]))
redis.call("SET", KEYS[1], cmsgpack.pack(standing), "EX", ARGV[3])
return 1
