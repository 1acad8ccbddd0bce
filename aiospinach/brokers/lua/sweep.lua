#!lua flags=no-writes
-- Looks at queues: is there something to run, and when does the next tick have something to do?
-- ARGV   grace (ms), then for each queue: count of its lanes, count of its periodic tasks, these tasks; KEYS are
--        for each queue: ready leases future periodic limits, and its lanes
-- answer {now, for each queue: 1 if there may be something to run, 0 if not; ms to what is due or lost next, or
--        -1; version of the limits, or ''}
-- repeat reads again
local grace = tonumber(arg())
local answer, key = {now}, 0

local function next_key()
  key = key + 1
  return KEYS[key]
end

local function first_score(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or 'inf')
end

while key < #KEYS do
  local queued, held, later, ticks, table_of_limits = next_key(), next_key(), next_key(), next_key(), next_key()
  local lane_count, task_count = tonumber(arg()), tonumber(arg())
  local is_something = call('LLEN', queued) > 0
  for _ = 1, lane_count do
    local lane = next_key()
    is_something = is_something or call('LLEN', lane) > 0
  end
  local due = math.min(first_score(later), first_score(held) + grace)
  for _ = 1, task_count do
    due = math.min(due, tonumber(call('ZSCORE', ticks, arg()) or 'inf'))
  end
  answer[#answer + 1] = is_something and 1 or 0
  answer[#answer + 1] = due < math.huge and math.max(0, due - now) or -1
  answer[#answer + 1] = call('HGET', table_of_limits, ' version') or ''
end
return answer
