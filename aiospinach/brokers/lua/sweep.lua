#!lua flags=allow-oom
-- Looks at queues: is there something to run, and when does the next tick have something to do?
-- needs  calm
-- ARGV   lease (ms), grace (ms), then for each queue: count of its periodic tasks, these tasks;
--        KEYS are for each queue: ready leases future periodic control looked open
-- answer {now, for each queue: 1 if there may be something to run, 0 if not; ms to what is due or lost next, or
--        -1; its epoch, or ''}
-- repeat reads again
local length, grace = tonumber(arg()), tonumber(arg())
local answer, key = {now}, 0

local function next_key()
  key = key + 1
  return KEYS[key]
end

local function first_score(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or 'inf')
end

-- What one queue answers; this raises if one of its keys has a wrong type.
local function look(queued, held, later, ticks, calm, gates, tasks)
  local is_something = call('LLEN', queued) > 0 or call('SCARD', gates) > 0
  local due = math.min(first_score(later), math.max(first_score(held) + grace, calm_until(calm, length)))
  for _, task in ipairs(tasks) do
    due = math.min(due, tonumber(call('ZSCORE', ticks, task) or 'inf'))
  end
  return is_something and 1 or 0, due < math.huge and math.max(0, due - now) or -1
end

while key < #KEYS do
  local queued, held, later, ticks, told, calm, gates =
    next_key(), next_key(), next_key(), next_key(), next_key(), next_key(), next_key()
  local tasks = {}
  for number = 1, tonumber(arg()) do
    tasks[number] = arg()
  end
  -- One queue that is spoilt hides no other: its own calls will say what is wrong.
  local is_well, is_something, due = pcall(look, queued, held, later, ticks, calm, gates, tasks)
  answer[#answer + 1] = is_well and is_something or 1
  answer[#answer + 1] = is_well and due or 0
  local moment = redis.pcall('HGET', told, ' epoch')
  answer[#answer + 1] = type(moment) == 'string' and moment or ''
end
return answer
