-- Say that somebody is still there: the holder of slots, or a gateway among the others.
--
-- KEYS  sorted sets of who is there, by when they are taken to be dead.
-- ARGV  now in ms (0: this server's clock), ms until then, who.
-- Back  how many are there, in the last of the sets.

local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local count = 0
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, now + lease, ARGV[3])
  redis.call('PEXPIRE', key, lease)
  count = redis.call('ZCARD', key)
end
return count
