-- The envelope in the record of a dead job, if that is one that can be read.
local function envelope_of_dead(id, record)
  local died_at, length, start = string.match(string.sub(record, 1, 40), '^(%d+) (%d+)\n()')
  if not start or not string.find(id, ID) or tonumber(died_at) >= LAST_MOMENT then
    return nil
  end
  local envelope = string.sub(record, start, start + length - 1)
  return #envelope == tonumber(length) and header(envelope) and envelope or nil
end
