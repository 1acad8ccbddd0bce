-- Leasing jobs.
local LARGE_PAGE, PAGES = 512, 3

-- The moment when a job is due that lies in line from before it was put off.
local function at_of(envelope)
  local _, _, at = header(envelope)
  return tonumber(at)
end

-- Leases up to want jobs, and calls them <id><suffix>: parked ones of the tasks that are wanted, those that gates let
-- through, and those in ready, of which head are the first. Returns the ids, ids and envelopes in turn, whether ready
-- has more jobs, whether something is due sooner, and whether marks are gone.
local function take_jobs(head, want, suffix, length, unknown, wanted)
  local is_unknown = {}
  for task in string.gmatch(unknown, '%S+') do
    is_unknown[task] = true
  end
  local taken, leased, is_something_left, sooner, is_unmarked = {}, {}, #head > 0, false, false
  local bite = math.min(want, CHUNK - 1) + 1
  local scores, holders = {}, {}
  local expiry = string.format('%.0f', now + length) -- once: a number is written anew for each command

  local function lease(id, task, envelope)
    local name = id .. suffix
    taken[#taken + 1] = id
    leased[#leased + 1] = id
    leased[#leased + 1] = envelope
    scores[#scores + 1] = expiry
    scores[#scores + 1] = name
    if limits[task] then
      room[task] = room[task] - 1
      holders[#holders + 1] = 0
      holders[#holders + 1] = task .. '\n' .. name
    end
  end

  -- Leases from the head of a line until so many are taken in all. Returns how many ids are done with.
  local function take(ids, goal)
    local blocked, unmarked, cancelled_ids, done = {}, {}, {}, 0
    local marks = has_cancels and looked_up('HMGET', cancels, ids) or {}
    for number, envelope in ipairs(looked_up('HMGET', jobs, ids)) do
      if #taken >= goal then
        break
      end
      done = number
      local id = ids[number]
      local task = envelope and string.find(id, ID) and task_of(envelope)
      if marks[number] and marks[number] ~= 'asked' then
        unmarked[#unmarked + 1] = id
      end
      if marks[number] == 'gone' then -- guard: cancelled in line
        cancelled_ids[#cancelled_ids + 1] = id
      elseif marks[number] == 'asked' then -- guard: asked for in line
        cancelled_ids[#cancelled_ids + 1] = id
        call('HSET', cancels, id, 'ended')
      elseif marks[number] and task and at_of(envelope) > now then -- guard: moved in line
        sooner = put_off(id, at_of(envelope)) or sooner
      elseif not task then -- guard: unreadable
        quarantine(id, envelope or '')
      elseif is_unknown[task] then -- guard: unknown task
        park_job(id, envelope)
      else
        if room_of(task) > 0 then -- guard: limit
          lease(id, task, envelope)
        else
          blocked[task] = blocked[task] or {}
          table.insert(blocked[task], id)
        end
      end
    end
    for task, blocked_ids in pairs(blocked) do
      hold_back(task, blocked_ids)
      if counted[task] then
        call('SADD', open, task)
      end
    end
    chunked('HDEL', jobs, cancelled_ids)
    chunked('HDEL', cancels, unmarked)
    is_unmarked = is_unmarked or #unmarked > 0
    return done
  end

  local looks = want + PAGES * LARGE_PAGE

  -- Leases from a gate as many as it lets through.
  local function pass(gate, most)
    local goal = #taken + math.min(most, want - #taken)
    local count = math.min(goal - #taken, CHUNK)
    while #taken < goal and looks > 0 do
      local entries, waiting = held_back(gate, count), {}
      for number, entry in ipairs(entries) do
        waiting[number] = string.match(entry, '\n%d+\n(.*)$') or ''
      end
      if #entries == 0 then
        break
      end
      local done = take(waiting, goal)
      chunked('ZREM', lanes, {unpack(entries, 1, done)})
      looks = looks - done
      count = LARGE_PAGE -- some were cancelled
    end
  end

  for task in string.gmatch(wanted, '%S+') do
    pass('?' .. task, room_of(task))
  end
  local gates = open_gates()
  for _, gate in ipairs(gates) do
    pass(gate, room_of(gate))
  end
  -- What is leased comes off in one command; looking past blocked jobs takes larger bites, so many at most.
  for _ = 1, PAGES do
    if #head == 0 or #taken >= want then
      break
    end
    local done = take(head, want)
    call('LTRIM', ready, done, -1)
    is_something_left = #head > done
    if #head < bite then
      break
    end
    bite = LARGE_PAGE
    if #taken < want then
      head = call('LRANGE', ready, 0, bite - 1)
      is_something_left = #head > 0
    end
  end
  chunked('ZADD', leases, scores)
  chunked('ZADD', slots, holders)
  for _, gate in ipairs(gates) do
    local is_closed = room_of(gate) <= 0 and not counted[gate] or not held_back(gate, 1)[1] -- guard: closed gate
    if is_closed then
      call('SREM', open, gate)
    end
  end
  if has_lanes and call('ZCARD', lanes) == 0 then
    call('HDEL', control, ' lanes')
    has_lanes = nil
  end
  return taken, leased, is_something_left, sooner, is_unmarked
end
