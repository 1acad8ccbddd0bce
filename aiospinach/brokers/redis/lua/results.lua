#!lua flags=no-writes
-- Reads what is known of jobs that keep results: of the first ones, if all of them together are large.
-- KEYS   jobs deadjobs
--        and result:<id> of each job
-- needs  task_of headers dead_records
-- ARGV   the ids of the jobs
-- answer {now, for each job that was read: the header of the live job, or ''; its stored end, or ''; the record of the dead job without
--        the body of its envelope, or ''; 1 if the header in that record can be read}
-- repeat reads again
local BYTES_AT_MOST = 262144
local answer, bytes = {now}, 0

local function header_lines(envelope)
  return envelope and header(envelope) and string.match(envelope, '^[^\n]*\n[^\n]*\n') or ''
end

-- Returns the record of a dead job without the body of its envelope, and whether it can be read.
local function dead_record(id, record)
  local envelope, is_readable = envelope_of_dead(id, record or '')
  if not envelope then
    return '', false
  end
  local died_at, length, start = string.match(string.sub(record, 1, 40), '^(%d+) (%d+)\n()')
  local lines = is_readable and header_lines(envelope) or ''
  return died_at .. ' ' .. #lines .. '\n' .. lines .. string.sub(record, start + length), is_readable
end

for number, id in ipairs(ARGV) do
  if bytes > BYTES_AT_MOST then -- guard: bytes of results
    break
  end
  local live, ended, died = call('HGET', jobs, id), call('GET', KEYS[FIXED_KEYS + number]), call('HGET', deadjobs, id)
  local record, is_readable = dead_record(id, died)
  answer[#answer + 1] = header_lines(live)
  answer[#answer + 1] = ended or ''
  answer[#answer + 1] = record
  answer[#answer + 1] = is_readable and 1 or 0
  bytes = bytes + #(live or '') + #(ended or '') + #(died or '')
end
return answer
