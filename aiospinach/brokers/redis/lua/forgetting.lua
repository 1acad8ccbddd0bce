-- Ends jobs that were cancelled before they ran. Their ids are free at once.
local function forget(ids)
  call_in_chunks('HDEL', jobs, ids)
  call_in_chunks('SREM', dedup0, ids)
  call_in_chunks('SREM', dedup1, ids)
end
