-- Settles jobs that are not simply done, have a mark, or hold a slot of their task.
local ENDS = {done = true, cancelled = true, fail = true, ['fail bare'] = true} -- 'fail bare' keeps no arguments

-- Stores a job in the place of a settled one. If the job is due, its id is added to the list again; else the job waits.
-- Returns whether it is due earlier than all other waiting jobs.
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

-- Returns for each action of a settlement a function that applies the action to the job. The function returns true if
-- the job has ended, and nil if it was quarantined. It notes in pending the steps that are done once for all jobs.
local function make_actions()
  local actions = {}

  function actions.done()
    return true
  end
  actions.cancelled = actions.done

  function actions.release(id, settlement, pending)
    local gate = has_lanes and first_in_lane(settlement.task, 1)[1] and settlement.task or ''
    pending.released[gate] = pending.released[gate] or {}
    table.insert(pending.released[gate], id)
    return false
  end

  -- Wraps an action that needs the envelope. A job that cannot be read is quarantined instead.
  local function on_envelope(action)
    return function(id, settlement, pending)
      local envelope = call('HGET', jobs, id) or ''
      if not header(envelope) then -- guard: unreadable settled job
        quarantine(id, envelope)
        return nil
      end
      return action(id, envelope, settlement, pending) or false
    end
  end

  local function fail(id, envelope, settlement, pending)
    add_dead(id, envelope, settlement.detail)
    pending.is_dead = true
    return true
  end
  actions.fail = on_envelope(fail)
  actions['fail bare'] = on_envelope(function(id, envelope, settlement, pending)
    return fail(id, bare(envelope), settlement, pending)
  end)

  actions.park = on_envelope(park_job)

  actions.retry = on_envelope(function(id, envelope, settlement, pending)
    local _, _, _, retries = header(envelope)
    -- A worker that asks for a retry knows the task.
    local new = {at = math.min(now + settlement.delay, LAST_MOMENT - 1), retries = retries + 1, parked = 0}
    if settlement.why then
      new.at = now
    end
    local later = rewritten(envelope, new)
    if string.find(settlement.detail, '^[%w_.<>]+$') then -- guard: class of an error
      later = with_error(later, settlement.detail)
    end
    if settlement.why then -- guard: turn of a pausing job
      call('HSET', jobs, id, later)
      pending.released[settlement.task] = pending.released[settlement.task] or {}
      table.insert(pending.released[settlement.task], id)
      return false
    end
    local is_earliest = store_again(id, later, new.at, pending.again)
    pending.has_earlier_due = is_earliest or pending.has_earlier_due
  end)
  return actions
end

local function marks_of(sent)
  local marks = {}
  if has_cancels and #sent > 0 then
    local ids = {}
    for number, lease in ipairs(sent) do
      ids[number] = id_of(lease) or ''
    end
    for number, mark in ipairs(read_in_chunks('HMGET', cancels, ids)) do
      marks[sent[number]] = mark
    end
  end
  return marks
end

-- Puts released jobs at the front of their lines, in their order.
local function put_first(released)
  for gate, ids in pairs(released) do
    if gate ~= '' then
      hold_back(gate, ids, true)
    else
      local last_first = {}
      for number = #ids, 1, -1 do
        last_first[#last_first + 1] = ids[number]
      end
      call_in_chunks('LPUSH', ready, last_first)
    end
  end
end

-- Returns two functions for the settlements of a call. The first settles one lease, and returns whether its id is free:
-- the job has ended, and no other has taken its place. The second is called after all leases were settled. It returns
-- whether ready has more jobs, whether a job is due earlier than was known, and whether marks were removed.
local function make_settlers(sent, tasks, settled, cancelled, odd)
  local marked_ids, freed_slots, is_freed, marks, actions = {}, {}, {}, marks_of(sent), make_actions()
  local pending = {released = {}, again = {}, has_earlier_due = false, is_dead = false}

  -- Applies a settlement that is not simply done. Returns whether the id is free: the job has ended, and no other has
  -- taken its place.
  local function apply(settlement, number, id, is_unwanted)
    if settlement.why then
      prolong_pause(settlement.task, math.min(now + settlement.delay, LAST_MOMENT - 1), settlement.why)
      pending.has_earlier_due = true
    end
    local has_ended, state = true, settlement.action
    if is_unwanted and not ENDS[settlement.action] then -- guard: unwanted
      cancelled[#cancelled + 1] = sent[number]
      state = 'cancelled'
      odd[number] = 'cancelled'
    else
      has_ended = actions[settlement.action](id, settlement, pending)
      odd[number] = has_ended == nil and 'fenced' or is_unwanted and 'alone' or nil
    end
    if has_ended and settlement.result_key then
      note_end(settlement.result_key, id, state, settlement.ttl, settlement.rest)
    end
    if has_ended and settlement.successor ~= '' and not is_unwanted then -- guard: successor
      local is_earliest = store_again(id, settlement.successor, settlement.due, pending.again)
      pending.has_earlier_due = is_earliest or pending.has_earlier_due
      return false
    end
    return has_ended
  end

  local function settle_one(number, id)
    local lease, settlement = sent[number], settled[number]
    local mark = marks[lease]
    if mark then
      marked_ids[#marked_ids + 1] = id
    end
    if has_limits then
      local task = tasks[number]
      freed_slots[#freed_slots + 1] = task .. '\n' .. lease
      is_freed[task] = true
    end
    return not settlement or apply(settlement, number, id, mark and is_cancelled(mark))
  end

  local function finish()
    put_first(pending.released)
    call_in_chunks('RPUSH', ready, pending.again)
    call_in_chunks('ZREM', slots, freed_slots)
    if has_lanes then
      for task in pairs(is_freed) do
        open_up(task)
      end
    end
    call_in_chunks('HDEL', cancels, marked_ids)
    if pending.is_dead then
      prune_dead()
    end
    local has_more = next(pending.released) ~= nil or #pending.again > 0
    return has_more, pending.has_earlier_due, #marked_ids > 0
  end
  return settle_one, finish
end
