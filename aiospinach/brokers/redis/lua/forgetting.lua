-- Ends jobs that were cancelled before they ran. Their ids are free at once.
local function note_cancelled(id, envelope)
  local ttl, rest = kept_end(envelope)
  if ttl > 0 then
    note_end(result_key(id), id, 'cancelled', ttl, rest)
  end
end

local function forget(ids, envelopes)
  call_in_chunks('HDEL', jobs, ids)
  call_in_chunks('SREM', dedup0, ids)
  call_in_chunks('SREM', dedup1, ids)
  for number, id in ipairs(ids) do
    note_cancelled(id, envelopes[number])
  end
end
