-- Returns the envelope in the record of a dead job, whether its header can be read, and where the detail begins; nil if
-- the record is malformed.
local function envelope_of_dead(id, record)
  local died_at, length, start = string.match(string.sub(record, 1, 40), '^(%d+) (%d+)\n()')
  if not start or tonumber(died_at) >= LAST_MOMENT then
    return nil
  end
  local envelope = string.sub(record, start, start + length - 1)
  if #envelope ~= tonumber(length) then
    return nil
  end
  return envelope, string.find(id, ID) and header(envelope) ~= nil or false, start + length
end
