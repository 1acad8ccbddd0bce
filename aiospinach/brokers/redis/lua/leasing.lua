-- Leases jobs.
local LARGE_PAGE, PAGES = 512, 3

-- Leases up to want jobs as <id><suffix>: first parked jobs of the wanted tasks, then jobs that gates let through, then
-- jobs of ready. head has the first ids of ready. Returns the ids, ids and envelopes in turn, where the jobs of each task
-- begin, whether ready has more jobs, whether a job is due earlier than was known, and whether marks were removed.
local function lease_jobs(head, want, suffix, length, unknown, wanted)
  local leased_ids, leased_jobs, is_something_left, has_earlier_due, has_removed_marks = {}, {}, #head > 0, false, false
  local leased_count = 0 -- the length of a table takes longer to find
  local starts, started_task = {}, nil
  local page_size = math.min(want, CHUNK - 1) + 1
  local lease_entries, slot_entries = {}, has_limits and {}
  local expiry = string.format('%.0f', now + length) -- once: Lua would convert a number for each command
  local is_unknown = unknown ~= '' and rare().set_of_words(unknown)

  -- Leases jobs of a line, until the number of all leased jobs is goal. Returns how many of the ids leave the line.
  local function take_from_line(ids, goal)
    local marks = has_cancels and read_in_chunks('HMGET', cancels, ids)
    local unmarked_ids, cancelled_ids, blocked_by_task, done = marks and {}, marks and {}, nil, 0
    for number, envelope in ipairs(read_in_chunks('HMGET', jobs, ids)) do
      if leased_count >= goal then
        break
      end
      done = number
      local id = ids[number]
      local task = envelope and string.find(id, ID) and task_of(envelope)
      local mark, due = marks and marks[number], nil
      if mark then
        due = task and rare().due_of_marked(id, envelope, mark)
        if mark ~= 'asked' then
          unmarked_ids[#unmarked_ids + 1] = id
        end
      end
      if mark == 'gone' then -- guard: cancelled in line
        cancelled_ids[#cancelled_ids + 1] = id
      elseif mark == 'asked' then -- guard: asked for in line
        cancelled_ids[#cancelled_ids + 1] = id
        call('HSET', cancels, id, 'ended')
      elseif due and due > now then -- guard: moved in line
        has_earlier_due = rare().put_off(id, due) or has_earlier_due
      elseif not task then -- guard: unreadable
        rare().quarantine(id, envelope or '')
      elseif is_unknown and is_unknown[task] then -- guard: unknown task
        rare().park_job(id, envelope)
      elseif (room[task] or room_of(task)) > 0 then -- guard: limit
        local name = id .. suffix
        leased_count = leased_count + 1
        leased_ids[leased_count] = id
        if task ~= started_task then
          starts[#starts + 1], started_task = {task = task, first = leased_count}, task
        end
        leased_jobs[2 * leased_count - 1], leased_jobs[2 * leased_count] = id, envelope
        lease_entries[2 * leased_count - 1], lease_entries[2 * leased_count] = expiry, name
        if limits[task] then
          room[task] = room[task] - 1
          slot_entries[#slot_entries + 1] = 0
          slot_entries[#slot_entries + 1] = task .. '\n' .. name
        end
      else
        blocked_by_task = blocked_by_task or {}
        blocked_by_task[task] = blocked_by_task[task] or {}
        table.insert(blocked_by_task[task], id)
      end
    end
    if blocked_by_task then
      for task, blocked_ids in pairs(blocked_by_task) do
        rare().hold_back(task, blocked_ids)
        if count_pending[task] then
          call('SADD', open, task)
        end
      end
    end
    if marks then
      call_in_chunks('HDEL', jobs, cancelled_ids)
      call_in_chunks('HDEL', cancels, unmarked_ids)
      has_removed_marks = has_removed_marks or #unmarked_ids > 0
    end
    return done
  end

  local gates = open_gates()
  if wanted ~= '' or #gates > 0 then
    local looks_left = want + PAGES * LARGE_PAGE

    -- Leases as many jobs of a gate as it lets through.
    local function take_from_gate(gate, gate_room)
      local goal = leased_count + math.min(gate_room, want - leased_count)
      local count = math.min(goal - leased_count, CHUNK)
      while leased_count < goal and looks_left > 0 do
        local entries, ids_in_lane = first_in_lane(gate, count), {}
        for number, entry in ipairs(entries) do
          ids_in_lane[number] = string.match(entry, '\n%d+\n(.*)$') or ''
        end
        if #entries == 0 then
          break
        end
        local done = take_from_line(ids_in_lane, goal)
        call_in_chunks('ZREM', lanes, {unpack(entries, 1, done)})
        looks_left = looks_left - done
        count = LARGE_PAGE -- some of the jobs were cancelled
      end
    end

    for task in string.gmatch(wanted, '%S+') do
      take_from_gate('?' .. task, room_of(task))
    end
    for _, gate in ipairs(gates) do
      take_from_gate(gate, room_of(gate))
    end
  end
  -- If limits block the head of the line, larger pages are read behind it, PAGES in all.
  for _ = 1, PAGES do
    if #head == 0 or leased_count >= want then
      break
    end
    local done = take_from_line(head, want)
    call('LTRIM', ready, done, -1)
    is_something_left = #head > done
    if #head < page_size or is_something_left then
      break
    end
    page_size = LARGE_PAGE
    if leased_count < want then
      head = call('LRANGE', ready, 0, page_size - 1)
      is_something_left = #head > 0
    else
      is_something_left = call('LLEN', ready) > 0 -- some ids of the page were of cancelled or blocked jobs
    end
  end
  call_in_chunks('ZADD', leases, lease_entries)
  if has_limits then
    call_in_chunks('ZADD', slots, slot_entries)
  end
  for _, gate in ipairs(gates) do
    local is_full = room_of(gate) <= 0 and not count_pending[gate]
    local is_closed = is_full or not first_in_lane(gate, 1)[1] -- guard: closed gate
    if is_closed then
      call('SREM', open, gate)
    end
  end
  if has_lanes and call('ZCARD', lanes) == 0 then
    call('HDEL', control, ' lanes')
    has_lanes = nil
  end
  return leased_ids, leased_jobs, starts, is_something_left, has_earlier_due, has_removed_marks
end
