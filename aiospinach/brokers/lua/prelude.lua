-- Stands before every script. All of them get the same KEYS, of one queue and so of one slot:
--   ready jobs leases slots future cancels dead deadjobs bad limits dedup:0 dedup:1 periodic wake sess
-- and then the lanes of the tasks whose limits the script is given.
local ready, jobs, leases, slots, future, cancels, dead, deadjobs, bad, limits, dedup0, dedup1, periodic,
  wake, sess = unpack(KEYS, 1, 15)
local FIRST_LANE = 16
local CHUNK = 1000
local TOMBSTONE = '-' -- in place of the envelope of a cancelled job that still lies in a list; ' ' and its
-- id are in cancels then, so that they can be counted
local LAST_MOMENT = 253370764800000 -- the year 9999
-- A command on a key of a wrong type raises. That must happen before anything is written, or jobs would be left
-- halfway: what a script may write to is read first, by asking for its length if by nothing else.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local position = 0
local function arg()
  position = position + 1
  return ARGV[position]
end

-- Calls a command with a list of any length: unpack is limited by the size of Lua's stack.
local function chunked(command, key, list)
  for first = 1, #list, CHUNK do
    call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local function looked_up(command, key, list)
  if #list > 0 and #list <= CHUNK then
    return call(command, key, unpack(list))
  end
  local found = {}
  for first = 1, #list, CHUNK do
    for _, value in ipairs(call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))) do
      found[#found + 1] = value
    end
  end
  return found
end

-- The header of an envelope: version retries max_retries crashes parked_at limit_key task at. What follows,
-- later fields and the body, begins at the position that comes last, and is never looked into.
local function header(envelope)
  local retries, most, crashes, parked, key, task, at, rest =
    string.match(envelope, '^1 (%d+) (%d+) (%d+) (%d+) (%S+) ([%w_.:@-]+) (%d+)()')
  if not task or tonumber(parked) >= LAST_MOMENT or tonumber(at) >= LAST_MOMENT then
    return nil
  end
  return task, retries, most, crashes, parked, key, at, rest
end

-- The task of an envelope whose header can be read.
local function task_of(envelope)
  local parked, task, at = string.match(envelope, '^1 %d+ %d+ %d+ (%d+) %S+ ([%w_.:@-]+) (%d+)')
  return task and tonumber(parked) < LAST_MOMENT and tonumber(at) < LAST_MOMENT and task
end

-- The envelope with another header; nil keeps what is there.
local function rewritten(envelope, new)
  local task, retries, most, crashes, parked, key, at, rest = header(envelope)
  at = new.at and string.format('%.0f', new.at) or at -- Lua itself writes 15 digits as a power of ten
  return table.concat({'1', new.retries or retries, most, new.crashes or crashes, new.parked or parked, key,
    task, at}, ' ') .. string.sub(envelope, rest)
end

local function id_of(lease)
  return string.match(lease, '^(.*):[^:]*$')
end

-- Puts aside a job that cannot be read, or has no envelope: it stops no other, and is not lost.
local function put_aside(id)
  call('HSETNX', jobs, id, '')
  call('RPUSH', bad, id)
end

-- The limits that the script was given: task -> how many may run, and where the others queue. A task that
-- once had a limit has a lane still.
local limit_of, lane_of = {}, {}
local function read_limits()
  for number = 1, tonumber(arg()) do
    local task, limit = arg(), tonumber(arg())
    limit_of[task] = limit > 0 and limit or nil
    lane_of[task] = KEYS[FIRST_LANE - 1 + number]
  end
end

local function free_slots(task)
  if not limit_of[task] then
    return math.huge
  end
  return limit_of[task] - call('ZLEXCOUNT', slots, '[' .. task .. '\n', '(' .. task .. '\n\255')
end

local function something_to_run()
  if call('LLEN', ready) > 0 then
    return true
  end
  for task, lane in pairs(lane_of) do
    if call('LLEN', lane) > 0 and free_slots(task) > 0 then
      return true
    end
  end
  return false
end

-- One token wakes one idle worker; there is at most one. It says 'due' if something is due earlier than was
-- known, and 'run' if there only is something to run.
local function arm(is_sooner)
  if call('LLEN', wake) == 0 then -- guard: one token
    call('RPUSH', wake, is_sooner and 'due' or 'run')
  elseif is_sooner then
    call('LSET', wake, 0, 'due')
  end
end

-- A queue keeps so many dead jobs, for so long.
local DEAD_AT_MOST, DEAD_FOR = 10000, 15552000000

local function bury_old()
  local old = call('ZRANGEBYSCORE', dead, '-inf', now - DEAD_FOR, 'LIMIT', 0, CHUNK)
  local surplus = call('ZCARD', dead) - #old - DEAD_AT_MOST
  if surplus > 0 then
    old = call('ZRANGE', dead, 0, #old + math.min(surplus, CHUNK) - 1)
  end
  chunked('HDEL', deadjobs, old)
  chunked('ZREM', dead, old)
end

local function put_off(id, due)
  call('ZADD', future, due, id)
  return call('ZRANGE', future, 0, 0)[1] == id
end
