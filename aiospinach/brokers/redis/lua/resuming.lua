-- Ends pauses.
local function resume(name)
  call('HDEL', pauses, name)
  if call('HLEN', pauses) == 0 then
    call('HDEL', control, ' pauses')
    has_pauses = nil
  end
  room[name] = nil
  if name == '*' then
    is_queue_paused, room = false, {}
  else
    open_up(name)
  end
end

-- Ends the pauses whose time is over. Returns whether there were any, and when the next pause ends.
local function end_pauses()
  local has_ended, next_end = false, LAST_MOMENT
  local entries = has_pauses and call('HGETALL', pauses) or {}
  for number = 1, #entries, 2 do
    local ends = moment_of(string.match(entries[number + 1], '^(%d+) '))
    if ends > 0 and ends <= now then -- guard: end of a pause
      resume(entries[number])
      has_ended = true
    elseif ends > 0 then
      next_end = math.min(next_end, ends)
    end
  end
  if has_pauses and #entries == 0 then -- somebody deleted pauses
    call('HDEL', control, ' pauses')
  end
  return has_ended, next_end
end
