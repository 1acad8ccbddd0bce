-- Ends jobs that were cancelled before they ran. Their ids are free at once.
local rows_of_events = '0' -- how many rows of events the stream keeps; 0: there is none

local function note_cancelled(id, envelope)
  local ttl, rest = kept_end(envelope)
  if ttl > 0 then
    note_end(result_key(id), id, 'cancelled', ttl, rest)
  end
end

local function tell_cancelled(ids, envelopes)
  for first = 1, #ids, EVENTS_AT_ONCE do
    local lines = {'-'}
    for number = first, math.min(#ids, first + EVENTS_AT_ONCE - 1) do
      lines[#lines + 1] = 'cancelled ' .. (task_of(envelopes[number]) or '-') .. ' - - - ' .. ids[number]
    end
    redis.pcall('XADD', events, 'MAXLEN', '~', rows_of_events, '*', 'e', table.concat(lines, '\n'))
  end
end

local function forget(ids, envelopes)
  call_in_chunks('HDEL', jobs, ids)
  call_in_chunks('SREM', dedup0, ids)
  call_in_chunks('SREM', dedup1, ids)
  for number, id in ipairs(ids) do
    note_cancelled(id, envelopes[number])
  end
  if rows_of_events ~= '0' then
    tell_cancelled(ids, envelopes)
  end
end
