#!lua flags=allow-oom
-- Looks at queues: is there something to run, and when does the next tick have something to do?
-- needs  rescue_pause
-- ARGV   lease (ms), grace (ms), name and level of the worker, then for each queue: the task after which it looks for parked
--        jobs, 1 if it looks whether something is amiss, count of its periodic tasks, these tasks;
--        KEYS are for each queue: ready leases future periodic control looked open lanes workers jobs cancels slots
-- answer {now, for each queue: 1 if there may be something to run, 0 if not; ms to what is due or lost next, or
--        -1; its epoch, or ''; some tasks with parked jobs, and for each since when the first job is parked, how many
--        are, and what control has for the task, or ''; 1 if there may be jobs that lie nowhere, or nothing lets them
--        through}
-- repeat reads again
local length, grace, worker = tonumber(arg()), tonumber(arg()), arg()
local TASKS_AT_ONCE = 100
local answer, key = {now}, 0

local function next_key()
  key = key + 1
  return KEYS[key]
end

local function first_score(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or 'inf')
end

-- A worker that says nothing for three leases is forgotten.
local function report(fleet)
  call('ZADD', fleet, now, worker)
  call('ZREMRANGEBYSCORE', fleet, '-inf', now - 3 * length)
  call('PEXPIRE', fleet, 3 * length)
end

local function parked_in(lines, told, after)
  local found, from = {}, '(?' .. after .. '\n\255'
  if call('HEXISTS', told, ' lanes') == 0 then
    return found
  end
  for _ = 1, TASKS_AT_ONCE do
    local entry = call('ZRANGEBYLEX', lines, from, '(@', 'LIMIT', 0, 1)[1]
    if not entry then
      break
    end
    local task, since = string.match(entry, '^%?(%S+)\n(%d+)\n')
    if task then
      found[#found + 1] = task
      found[#found + 1] = since
      found[#found + 1] = call('ZLEXCOUNT', lines, '[?' .. task .. '\n', '(?' .. task .. '\n\255')
      found[#found + 1] = call('HGET', told, task) or ''
    end
    from = '(' .. (task and '?' .. task .. '\n\255' or entry)
  end
  return found
end

-- More live than lie somewhere, if all that is marked as cancelled is gone; or slots are held by no lease; or nothing runs
-- whose end opens a gate, and none is open.
local function is_amiss(queued, held, later, gates, lines, all, marks, taken)
  local running, in_lines = call('ZCARD', held), call('ZCARD', lines)
  local found = call('LLEN', queued) + running + in_lines + call('ZCARD', later)
  return call('HLEN', all) + call('HLEN', marks) > found or call('ZCARD', taken) > running
    or running == 0 and call('SCARD', gates) == 0 and in_lines > call('ZLEXCOUNT', lines, '[?', '(@')
end

-- What one queue answers; this raises if one of its keys has a wrong type.
local function look(queued, held, later, ticks, calm, gates, lines, told, fleet, after, tasks)
  report(fleet)
  local is_something = call('LLEN', queued) > 0 or call('SCARD', gates) > 0
  local due = math.min(first_score(later), math.max(first_score(held) + grace, calm_until(calm, length)))
  for _, task in ipairs(tasks) do
    due = math.min(due, tonumber(call('ZSCORE', ticks, task) or 'inf'))
  end
  return is_something and 1 or 0, due < math.huge and math.max(0, due - now) or -1, parked_in(lines, told, after)
end

while key < #KEYS do
  local queued, held, later, ticks, told, calm, gates, lines, fleet =
    next_key(), next_key(), next_key(), next_key(), next_key(), next_key(), next_key(), next_key(), next_key()
  local all, marks, taken = next_key(), next_key(), next_key()
  local after, is_thorough, tasks = arg(), arg() == '1', {}
  for number = 1, tonumber(arg()) do
    tasks[number] = arg()
  end
  -- One queue that is spoilt hides no other: its own calls will say what is wrong.
  local is_well, is_something, due, parked =
    pcall(look, queued, held, later, ticks, calm, gates, lines, told, fleet, after, tasks)
  answer[#answer + 1] = is_well and is_something or 1
  answer[#answer + 1] = is_well and due or 0
  local moment = redis.pcall('HGET', told, ' epoch')
  answer[#answer + 1] = type(moment) == 'string' and moment or ''
  answer[#answer + 1] = is_well and parked or {}
  local could_look, amiss = is_thorough, false
  if is_thorough then
    could_look, amiss = pcall(is_amiss, queued, held, later, gates, lines, all, marks, taken)
  end
  answer[#answer + 1] = could_look and amiss and 1 or 0
end
return answer
