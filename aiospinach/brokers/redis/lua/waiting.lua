-- Makes jobs wait until they are due.
-- Makes a job wait until it is due. Returns whether it is due earlier than all other waiting jobs.
local function put_off(id, due)
  call('ZADD', future, due, id)
  return call('ZRANGE', future, 0, 0)[1] == id
end

-- Returns when a job with a mark is due: it took over a place in line, or was moved there. The mark may have the moment
-- that the envelope lacks.
local function due_of_marked(id, envelope, mark)
  local at = string.match(mark, '^later (%d+)$')
  if at then -- guard: moment of a mark
    call('HSET', jobs, id, rewritten(envelope, {at = tonumber(at)}))
    return tonumber(at)
  end
  local _, _, stored = header(envelope)
  return tonumber(stored)
end
