-- Pay another cost than was taken: the difference goes where it was taken, if that still counts.
--
-- KEYS  the account.
-- ARGV  the difference; id and slice of each window that was charged.

for index = 2, #ARGV, 2 do
  local id = ARGV[index]
  if redis.call('HEXISTS', KEYS[1], id .. ARGV[index + 1]) == 1 then
    redis.call('HINCRBY', KEYS[1], id .. ARGV[index + 1], ARGV[1])
    redis.call('HINCRBY', KEYS[1], id .. 't', ARGV[1])
  end
end
