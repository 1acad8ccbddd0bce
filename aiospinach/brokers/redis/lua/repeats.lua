-- Answers an exchange that is repeated.
local function envelopes_of(ids)
  local answer = {}
  for number, envelope in ipairs(read_in_chunks('HMGET', jobs, ids)) do
    if envelope then
      answer[#answer + 1] = ids[number]
      answer[#answer + 1] = envelope
    end
  end
  return answer
end

-- Returns whether some of the parked jobs that the caller wants may run.
local function is_wanted_left(wanted)
  for task in string.gmatch(wanted, '%S+') do
    if room_of(task) > 0 and first_in_lane('?' .. task, 1)[1] then
      return true
    end
  end
  return false
end

-- last has what the session keeps of the exchange: its number, and its fenced leases, cancelled leases and leased ids.
local function answer_again(last, suffix, wanted, epoch)
  local last_fenced, last_cancelled, last_leased = string.match(last, '\n([^\n]*)\n([^\n]*)\n(.*)$')
  local live, leased_ids, names = {}, list_of_words(last_leased), {}
  for number, id in ipairs(leased_ids) do
    names[number] = id .. suffix
  end
  for number, score in ipairs(read_in_chunks('ZMSCORE', leases, names)) do
    if score then -- guard: repeated lease
      live[#live + 1] = leased_ids[number]
    end
  end
  return {now, list_of_words(last_fenced), list_of_words(last_cancelled), envelopes_of(live), epoch,
    (something_to_run() or is_wanted_left(wanted)) and 1 or 0}
end
