-- Settling leases.
local ENDS = {done = true, cancelled = true, fail = true, ['fail bare'] = true} -- the last one keeps no arguments

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

-- What is done with a settled job, by the action of its settlement. Each returns true if the job has ended, and leaves in
-- after what follows for all jobs together.
local actions = {}

function actions.done()
  return true
end
actions.cancelled = actions.done

function actions.release(id, what, after)
  local gate = has_lanes and held_back(what.task, 1)[1] and what.task or ''
  after.released[gate] = after.released[gate] or {}
  table.insert(after.released[gate], id)
end

-- An action that needs the envelope. A job that cannot be read is quarantined instead.
local function on_envelope(action)
  return function(id, what, after)
    local envelope = call('HGET', jobs, id) or ''
    if not header(envelope) then -- guard: unreadable settled job
      quarantine(id, envelope)
      return false
    end
    return action(id, envelope, what, after)
  end
end

local function fail(id, envelope, what, after)
  bury(id, envelope, what.detail)
  after.is_dead = true
  return true
end
actions.fail = on_envelope(fail)
actions['fail bare'] = on_envelope(function(id, envelope, what, after)
  return fail(id, bare(envelope), what, after)
end)

actions.park = on_envelope(park_job)

actions.retry = on_envelope(function(id, envelope, what, after)
  local _, _, _, retries = header(envelope)
  -- A worker that asks for a retry knows the task.
  local new = {at = math.min(now + what.delay, LAST_MOMENT - 1), retries = retries + 1, parked = 0}
  after.sooner = store_again(id, rewritten(envelope, new), new.at, after.again) or after.sooner
end)

local function marks_of(sent)
  local marks = {}
  if has_cancels and #sent > 0 then
    local ids = {}
    for number, lease in ipairs(sent) do
      ids[number] = id_of(lease) or ''
    end
    for number, mark in ipairs(looked_up('HMGET', cancels, ids)) do
      marks[sent[number]] = mark
    end
  end
  return marks
end

-- Puts released jobs first in their lines, in their order.
local function put_first(released)
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
end

-- Ends leases as their holders say. tasks has the task of each, and settled the action of those that are not done, by
-- their places. mark is what stands behind the id in a lease of this session. Returns the leases that were gone, those
-- whose job was cancelled instead of put back, whether ready has more jobs, whether something is due sooner, and
-- whether marks are gone.
local function settle(sent, tasks, settled, mark)
  local gone, ended, met, freed, is_settled, fenced, cancelled = {}, {}, {}, {}, {}, {}, {}
  local after = {released = {}, again = {}, sooner = false, is_dead = false}
  local is_freed, is_unwanted = {}, marks_of(sent)
  for number, score in ipairs(looked_up('ZMSCORE', leases, sent)) do
    local lease, task, what = sent[number], tasks[number], settled[number]
    if not score or is_settled[lease] then -- guard: fence
      fenced[#fenced + 1] = lease
    else
      is_settled[lease] = true
      gone[#gone + 1] = lease
      local length_of_id = string.find(lease, mark, 1, true) -- it nearly always is of this session
      local id = length_of_id and string.sub(lease, 1, length_of_id - 1) or id_of(lease)
      if is_unwanted[lease] then
        met[#met + 1] = id
      end
      if has_limits then
        freed[#freed + 1] = task .. '\n' .. lease
        is_freed[task] = true
      end
      local has_ended = true
      if what and is_unwanted[lease] and not ENDS[what.action] then -- guard: unwanted
        cancelled[#cancelled + 1] = lease
      elseif what then
        has_ended = actions[what.action](id, what, after)
      end
      if has_ended and what and what.successor ~= '' and not is_unwanted[lease] then -- guard: successor
        after.sooner = store_again(id, what.successor, what.due, after.again) or after.sooner
      elseif has_ended then
        ended[#ended + 1] = id
      end
    end
  end
  chunked('HDEL', jobs, ended)
  chunked('ZREM', leases, gone)
  put_first(after.released)
  chunked('RPUSH', ready, after.again)
  chunked('ZREM', slots, freed)
  if has_lanes then
    for task in pairs(is_freed) do
      open_up(task)
    end
  end
  chunked('HDEL', cancels, met)
  if after.is_dead then
    prune_dead()
  end
  return fenced, cancelled, next(after.released) ~= nil or #after.again > 0, after.sooner, #met > 0
end
