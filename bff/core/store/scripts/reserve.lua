-- The exact equal of MemoryStore.reserve: units from every window and one of each slot, or nothing from any.
--
-- KEYS  the account, a hash: of each window `<id>t` units that count, `<id>o` and `<id>n` the oldest and the newest slice
--       that has some, and `<id><number>` the units of each slice; then each slot, a sorted set of who holds one, by when
--       they are taken to be dead.
-- ARGV  now in ms (0: this server's clock), cost (0: only look), who asks, ms for which it holds slots without renewing
--       them, ms after which the account is forgotten, the number of windows; id, amount, slice, span and enforced of
--       each window; most and enforced of each slot.
-- Back  bits of what refuses, windows before slots; bits of what is measured and would have; ms to wait, -1 if for ever;
--       for each window what is left, ms until there is more, and the slice that was charged (-1 if none);
--       when only looking, how many of each slot are held.

local key = KEYS[1]
local now, cost, who, lease, ttl, count = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Drop what counts no more. Slices between the oldest and the newest are never more than a window has.
local function forget(window)
  local fields = {}
  for number = window.oldest, window.newest do fields[#fields + 1] = window.id .. number end
  local units, gone, oldest = redis.call('HMGET', key, unpack(fields)), {}, nil
  for index = 1, #fields do
    local number = window.oldest + index - 1
    if units[index] and number < window.floor then
      window.total = window.total - units[index]
      gone[#gone + 1] = fields[index]
    elseif units[index] then
      oldest = oldest or number
    end
  end
  window.oldest = oldest
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if oldest then
    redis.call('HSET', key, window.id .. 't', window.total, window.id .. 'o', oldest)
  else
    window.newest = nil
    redis.call('HDEL', key, window.id .. 't', window.id .. 'o', window.id .. 'n')
  end
end

local windows, fields = {}, {}
for index = 1, count do
  local at = 5 * index + 2
  local id, slice, span = ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local number = math.floor(now / slice)
  windows[index] = {id = id, amount = tonumber(ARGV[at + 1]), slice = slice, span = span, enforced = ARGV[at + 4] == '1',
                    number = number, floor = number - span}
  local last = #fields
  fields[last + 1], fields[last + 2], fields[last + 3], fields[last + 4] = id .. 't', id .. 'o', id .. 'n', id .. number
end
local found = count > 0 and redis.call('HMGET', key, unpack(fields)) or {}

local refusing, over, bit = 0, 0, 1
for index, window in ipairs(windows) do
  local last = 4 * index
  window.total, window.oldest, window.newest = tonumber(found[last - 3] or 0), tonumber(found[last - 2]), tonumber(found[last - 1])
  window.units = tonumber(found[last] or 0)
  if window.oldest and window.oldest < window.floor then forget(window) end
  if window.total + cost > window.amount then
    window.short = true
    if window.enforced then refusing = refusing + bit else over = over + bit end
  end
  bit = bit * 2
end
local held = {}
for index = 2, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', now)
  held[index - 1] = redis.call('ZCARD', KEYS[index])
  local at = 5 * count + 2 * index + 3
  if held[index - 1] >= tonumber(ARGV[at]) then
    if ARGV[at + 1] == '1' then refusing = refusing + bit else over = over + bit end
  end
  bit = bit * 2
end

-- When as many units count no more as are missing.
local function freed(window)
  local missing, names = window.total + cost - window.amount, {}
  for number = window.oldest, window.newest do names[#names + 1] = window.id .. number end
  for index, units in ipairs(redis.call('HMGET', key, unpack(names))) do
    missing = missing - (units or 0)
    if units and missing <= 0 then
      return math.max(0, (window.oldest + index + window.span) * window.slice - now)
    end
  end
  return window.slice * math.max(1, window.span)
end

local wait = 0
if refusing > 0 then
  for _, window in ipairs(windows) do
    if window.short and window.enforced and wait >= 0 then
      wait = cost > window.amount and -1 or math.max(wait, freed(window))
    end
  end
elseif cost > 0 then
  -- Of what is only measured, nothing is taken that would have been refused.
  local changed = {}
  for _, window in ipairs(windows) do
    if over == 0 or window.enforced then
      local number = window.number
      if window.newest and window.newest > number then -- a clock may be set back
        number = window.newest
        window.units = tonumber(redis.call('HGET', key, window.id .. number))
      end
      window.charged, window.total, window.oldest = number, window.total + cost, window.oldest or number
      local last = #changed
      changed[last + 1], changed[last + 2] = window.id .. 't', window.total
      changed[last + 3], changed[last + 4] = window.id .. 'o', window.oldest
      changed[last + 5], changed[last + 6] = window.id .. 'n', number
      changed[last + 7], changed[last + 8] = window.id .. number, window.units + cost
    end
  end
  if #changed > 0 then
    redis.call('HSET', key, unpack(changed))
    redis.call('PEXPIRE', key, ttl)
  end
  for index = 2, #KEYS do
    redis.call('ZADD', KEYS[index], now + lease, who)
    redis.call('PEXPIRE', KEYS[index], lease)
  end
end

local answer = {refusing, over, wait}
for _, window in ipairs(windows) do
  local last = #answer
  answer[last + 1] = math.max(0, window.amount - window.total)
  answer[last + 2] = window.oldest and (window.oldest + window.span + 1) * window.slice - now or 0
  answer[last + 3] = window.charged or -1
end
if cost == 0 then
  for _, each in ipairs(held) do answer[#answer + 1] = each end
end
return answer
