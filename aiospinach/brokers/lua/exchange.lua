#!lua flags=allow-oom
-- Settles leased jobs, and leases others.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open wake sess
-- needs  lists envelopes gates parking graves aside wake
-- ARGV   session, seq, want, lease (ms), epoch that the caller knows, tasks that it does not know (their jobs are parked),
--        tasks of whose parked jobs it wants some; then what is settled, in order: task, count of its leases that are done
--        in a row, these leases; or, where the count is 0: task, 0, lease, action, delay (ms), detail
-- answer {now, fenced leases, leases whose job was cancelled instead of put back, id and envelope of each
--        leased job in turn, epoch (if it is earlier than the caller's, nothing was leased), 1 if something is left to
--        run}. The lease of a job is called <id>:<session>.<seq>
-- repeat the session remembers its last seq for an hour at least: nothing is settled or leased again, and the answer
--        is the same but for leases that were lost meanwhile; a call before the last one, which comes late, does nothing
local session, seq, want, length, known = arg(), arg(), tonumber(arg()), tonumber(arg()), tonumber(arg())
local unknown, wanted = arg(), arg()
local current = moment_of(told_epoch)
local is_lost = current < known -- guard: lost registration
if is_lost then -- what the queue uses is lost as well
  has_limits, has_lanes, has_cancels = '1', '1', '1'
end

local MEMORY = 3600000 -- the store may be away for many leases before a call is repeated
local mark = ':' .. session .. '.'
local suffix = mark .. seq

local function envelopes_of(ids)
  local answer = {}
  for number, envelope in ipairs(looked_up('HMGET', jobs, ids)) do
    if envelope then
      answer[#answer + 1] = ids[number]
      answer[#answer + 1] = envelope
    end
  end
  return answer
end

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do
    list[#list + 1] = word
  end
  return list
end

local function put_off(id, due)
  call('ZADD', future, due, id)
  return call('ZRANGE', future, 0, 0)[1] == id
end

-- Of the parked jobs that the caller wants, some may run.
local function is_wanted_left()
  for task in string.gmatch(wanted, '%S+') do
    if room_of(task) > 0 and held_back('?' .. task, 1)[1] then
      return true
    end
  end
  return false
end

-- The moment when a job is due that lies in line from before it was put off.
local function at_of(envelope)
  local _, _, at = header(envelope)
  return tonumber(at)
end

local function park_job(id, envelope)
  local task, _, _, _, _, parked = header(envelope)
  local since = parked == '0' and now or tonumber(parked) -- guard: since when it is parked
  call('HSET', jobs, id, rewritten(envelope, {parked = string.format('%.0f', since)}))
  park('?' .. task, since, id)
end

local last = call('GET', sess)
local last_seq = last and string.match(last, '^(%d+)\n[^\n]*\n[^\n]*\n')
if last_seq then
  if last_seq == seq then -- guard: sequence
    local last_fenced, last_cancelled, last_taken = string.match(last, '\n([^\n]*)\n([^\n]*)\n(.*)$')
    local live, taken, names = {}, words(last_taken), {}
    for number, id in ipairs(taken) do
      names[number] = id .. suffix
    end
    for number, score in ipairs(looked_up('ZMSCORE', leases, names)) do
      if score then -- guard: repeated lease
        live[#live + 1] = taken[number]
      end
    end
    return {now, words(last_fenced), words(last_cancelled), envelopes_of(live), current,
      (something_to_run() or is_wanted_left()) and 1 or 0}
  end
  if tonumber(seq) < tonumber(last_seq) then -- guard: late call
    return {now, {}, {}, {}, current, 0}
  end
end

if has_cancels then
  call('HLEN', cancels)
  call('ZCARD', future)
end
if has_limits then
  call('ZCARD', slots)
  call('ZCARD', lanes)
  call('SCARD', open)
end
local sent, tasks, settled = {}, {}, {}
while position < #ARGV do
  local task, done = arg(), tonumber(arg())
  for _ = 1, math.max(done, 1) do
    sent[#sent + 1], tasks[#tasks + 1] = arg(), task
  end
  if done == 0 then
    settled[#sent] = {action = arg(), delay = tonumber(arg()), detail = arg()}
  end
end
local gone, ended, met, freed, is_settled, fenced, cancelled = {}, {}, {}, {}, {}, {}, {}
local released, again, sooner, is_dead, is_freed = {}, {}, false, false, {}
local LARGE_BITE, BITES = 512, 3
local bite = math.min(want, CHUNK - 1) + 1 -- one more than is taken tells whether something is left
local head = call('LRANGE', ready, 0, bite - 1)
if next(settled) then
  call('ZCARD', future)
  call('ZCARD', dead)
  call('HLEN', deadjobs)
  call('ZCARD', lanes)
end
local is_unwanted = {}
if has_cancels and #sent > 0 then
  local ids = {}
  for number, lease in ipairs(sent) do
    ids[number] = id_of(lease) or ''
  end
  for number, mark in ipairs(looked_up('HMGET', cancels, ids)) do
    is_unwanted[sent[number]] = mark
  end
end
for number, score in ipairs(looked_up('ZMSCORE', leases, sent)) do
  local lease, task, what = sent[number], tasks[number], settled[number]
  local length_of_id = string.find(lease, mark, 1, true) -- it nearly always is of this session
  local id = length_of_id and string.sub(lease, 1, length_of_id - 1) or id_of(lease)
  if not score or is_settled[lease] then -- guard: fence
    fenced[#fenced + 1] = lease
  else
    is_settled[lease] = true
    gone[#gone + 1] = lease
    if is_unwanted[lease] then
      met[#met + 1] = id
    end
    if has_limits then
      freed[#freed + 1] = task .. '\n' .. lease
      is_freed[task] = true
    end
    if not what or what.action == 'cancelled' then
      ended[#ended + 1] = id
    elseif is_unwanted[lease] and what.action ~= 'fail' then -- guard: unwanted
      cancelled[#cancelled + 1] = lease
      ended[#ended + 1] = id
    elseif what.action == 'release' then
      local gate = has_lanes and held_back(task, 1)[1] and task or ''
      released[gate] = released[gate] or {}
      table.insert(released[gate], id)
    else
      local envelope = call('HGET', jobs, id) or ''
      if not header(envelope) then -- guard: unreadable settled job
        put_aside(id, envelope)
      elseif what.action == 'fail' then
        bury(id, envelope, what.detail)
        is_dead = true
        ended[#ended + 1] = id
      elseif what.action == 'park' then
        park_job(id, envelope)
      else
        local _, _, _, retries = header(envelope)
        -- Whoever asks for a retry knows the task.
        local new = {at = math.min(now + what.delay, LAST_MOMENT - 1), retries = retries + 1, parked = 0}
        call('HSET', jobs, id, rewritten(envelope, new))
        if what.delay > 0 then
          sooner = put_off(id, new.at) or sooner
        else
          again[#again + 1] = id
        end
      end
    end
  end
end
chunked('HDEL', jobs, ended)
chunked('ZREM', leases, gone)
for gate, ids in pairs(released) do
  if gate ~= '' then
    hold_back(gate, ids, true)
  else
    local last_first = {}
    for number = #ids, 1, -1 do
      last_first[#last_first + 1] = ids[number]
    end
    chunked('LPUSH', ready, last_first)
  end
end
chunked('RPUSH', ready, again)
if next(released) or #again > 0 then
  head = call('LRANGE', ready, 0, bite - 1)
end
chunked('ZREM', slots, freed)
if has_lanes then
  for task in pairs(is_freed) do
    open_up(task)
  end
end
chunked('HDEL', cancels, met)

if is_dead then
  bury_old()
end

local is_unknown = {}
for task in string.gmatch(unknown, '%S+') do
  is_unknown[task] = true
end
local is_unmarked = #met > 0
local taken, leased, is_something_left = {}, {}, #head > 0
if want > 0 and not is_lost then
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
        put_aside(id, envelope or '')
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

  local looks = want + BITES * LARGE_BITE

  -- Leases from a gate as many as it lets through.
  local function pass(gate, most)
    local goal = #taken + math.min(most, want - #taken)
    local count = goal - #taken
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
      count = LARGE_BITE -- some were cancelled
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
  for _ = 1, BITES do
    if #head == 0 or #taken >= want then
      break
    end
    local done = take(head, want)
    call('LTRIM', ready, done, -1)
    is_something_left = #head > done
    if #head < bite then
      break
    end
    bite = LARGE_BITE
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
end
if is_unmarked and call('HLEN', cancels) == 0 then
  call('HDEL', control, ' cancels')
end
call('SET', sess, seq .. '\n' .. table.concat(fenced, ' ') .. '\n' .. table.concat(cancelled, ' ') .. '\n' ..
  table.concat(taken, ' '), 'PX', math.max(length * 2, MEMORY))
is_something_left = is_something_left or something_to_run()
if sooner or is_something_left then
  arm(sooner)
end
return {now, fenced, cancelled, leased, current, (is_something_left or is_wanted_left()) and 1 or 0}
