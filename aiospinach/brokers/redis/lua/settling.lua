-- Settling leases.
local is_failure = {['fail'] = true, ['fail bare'] = true} -- the latter keeps no arguments

-- Returns whether the job is due earlier than all others that are due later.
local function put_off(id, due)
  call('ZADD', future, due, id)
  return call('ZRANGE', future, 0, 0)[1] == id
end

-- Stores a job in the place of one that is settled. If it is due, its id is added to again. Otherwise it is put off:
-- returns whether it is due earlier than all others.
local function store_again(id, envelope, due, again)
  call('HSET', jobs, id, envelope)
  if due > now then
    return put_off(id, due)
  end
  again[#again + 1] = id
  return false
end

local function park_job(id, envelope)
  local task, _, _, _, _, parked = header(envelope)
  local since = parked == '0' and now or tonumber(parked) -- guard: since when it is parked
  call('HSET', jobs, id, rewritten(envelope, {parked = string.format('%.0f', since)}))
  park('?' .. task, since, id)
end

-- Ends leases as their holders say. tasks has the task of each, and settled the action of those that are not done, by
-- their places. mark is what stands behind the id in a lease of this session. Returns the leases that were gone, those
-- whose job was cancelled instead of put back, whether ready has more jobs, whether something is due sooner, and
-- whether marks are gone.
local function settle(sent, tasks, settled, mark)
  local gone, ended, met, freed, is_settled, fenced, cancelled = {}, {}, {}, {}, {}, {}, {}
  local released, again, sooner, is_dead, is_freed = {}, {}, false, false, {}
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
      local has_ended = false
      if not what or what.action == 'done' or what.action == 'cancelled' then
        has_ended = true
      elseif is_unwanted[lease] and not is_failure[what.action] then -- guard: unwanted
        cancelled[#cancelled + 1] = lease
        has_ended = true
      elseif what.action == 'release' then
        local gate = has_lanes and held_back(task, 1)[1] and task or ''
        released[gate] = released[gate] or {}
        table.insert(released[gate], id)
      else
        local envelope = call('HGET', jobs, id) or ''
        if not header(envelope) then -- guard: unreadable settled job
          quarantine(id, envelope)
        elseif is_failure[what.action] then
          bury(id, what.action == 'fail' and envelope or bare(envelope), what.detail)
          is_dead, has_ended = true, true
        elseif what.action == 'park' then
          park_job(id, envelope)
        else
          local _, _, _, retries = header(envelope)
          -- A worker that asks for a retry knows the task.
          local new = {at = math.min(now + what.delay, LAST_MOMENT - 1), retries = retries + 1, parked = 0}
          sooner = store_again(id, rewritten(envelope, new), new.at, again) or sooner
        end
      end
      if has_ended and what and what.successor ~= '' and not is_unwanted[lease] then -- guard: successor
        sooner = store_again(id, what.successor, what.due, again) or sooner
      elseif has_ended then
        ended[#ended + 1] = id
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
  chunked('ZREM', slots, freed)
  if has_lanes then
    for task in pairs(is_freed) do
      open_up(task)
    end
  end
  chunked('HDEL', cancels, met)

  if is_dead then
    prune_dead()
  end
  return fenced, cancelled, next(released) ~= nil or #again > 0, sooner, #met > 0
end
