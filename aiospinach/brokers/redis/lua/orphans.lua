#!lua flags=allow-oom
-- Finds orphans: live jobs that are in no line, in no lease and not in future, because somebody deleted a key or a part
-- of one. An orphan that is not due waits again, and a parked one is parked again. Any other orphan may have run. It gets
-- a lease without a worker, and is lost when that lease ends. By then a worker that ran the job has learned that its own
-- lease is gone. The script also frees slots whose lease is gone, forgets progress without a lease, and opens gates that have room.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open pauses progress
-- needs  chunks task_of headers gates lanes parking prune_dead quarantine
-- ARGV   session, number of this call, lease (ms), cursor of the page of jobs
-- answer {now, cursor of the next page, or '0' after the last one}
-- repeat finds other orphans: those of the first call are back in their places
local session, number, length, cursor = arg(), arg(), tonumber(arg()), arg()
local IN_LINES_AT_MOST = 10000 -- more would keep the server busy; a later call finds shorter lines
local PAGE = 250
local SLOTS_AT_ONCE = 1000
local GATES_AT_MOST = 1000

if call('LLEN', ready) + call('ZCARD', leases) + call('ZCARD', lanes) > IN_LINES_AT_MOST then
  return {now, '0'}
end
call('SCARD', open)
call('ZCARD', dead)
call('HLEN', deadjobs)

local function free_slots()
  local entries, leases_of_slots = call('ZRANDMEMBER', slots, SLOTS_AT_ONCE), {}
  for place, entry in ipairs(entries) do
    leases_of_slots[place] = string.match(entry, '\n(.*)$') or ''
  end
  local scores = read_in_chunks('ZMSCORE', leases, leases_of_slots)
  for place, entry in ipairs(entries) do
    if not scores[place] then -- guard: slot of a lease
      call('ZREM', slots, entry)
      open_up(string.match(entry, '^[^\n]*'))
    end
  end
end

-- Returns the ids in lines and leases, and how many of these jobs live.
local function ids_with_a_place()
  local is_found, marked, count = {}, {}, 0
  local function add_place(id)
    if id and not is_found[id] then
      is_found[id] = true
      count = count + 1
      marked[count] = id
    end
  end
  for _, id in ipairs(call('LRANGE', ready, 0, -1)) do
    add_place(id)
  end
  for _, lease in ipairs(call('ZRANGE', leases, 0, -1)) do
    add_place(id_of(lease))
  end
  local gates, gates_left = {}, GATES_AT_MOST
  for _, entry in ipairs(call('ZRANGE', lanes, 0, -1)) do
    local gate, id = string.match(entry, '^([^\n]*)\n%d+\n(.*)$')
    add_place(id)
    if gate and gates_left > 0 and not gates[gate] and string.sub(gate, 1, 1) ~= '?' then
      gates[gate], gates_left = true, gates_left - 1
      if room_of(gate) > 0 then -- guard: room behind a gate
        call('SADD', open, gate)
        call('HSET', control, ' lanes', 1)
      end
    end
  end
  if call('HLEN', cancels) > 0 then
    for place, mark in ipairs(read_in_chunks('HMGET', cancels, marked)) do
      if mark and call('HEXISTS', jobs, marked[place]) == 0 then
        count = count - 1
      end
    end
  end
  return is_found, count
end

local function put_back(id, envelope)
  local task, _, at, _, _, parked = header(envelope)
  if not task or not string.find(id, ID) then -- guard: unreadable orphan
    quarantine(id, envelope)
  elseif parked ~= '0' then -- guard: parked orphan
    park('?' .. task, tonumber(parked), id)
  elseif tonumber(at) > now then -- guard: orphan due later
    call('ZADD', future, at, id)
  else
    local lease = id .. ':' .. session .. '.s' .. number
    call('ZADD', leases, string.format('%.0f', now + length), lease)
    if limit_in(has_limits and call('HGET', control, task)) > 0 then -- guard: slot of an orphan
      call('ZADD', slots, 0, task .. '\n' .. lease)
    end
  end
end

local function forget_progress()
  local names, gone = call('HRANDFIELD', progress, SLOTS_AT_ONCE), {}
  for place, score in ipairs(read_in_chunks('ZMSCORE', leases, names)) do
    if not score then -- guard: progress of a running job
      gone[#gone + 1] = names[place]
    end
  end
  call_in_chunks('HDEL', progress, gone)
end

free_slots()
forget_progress()
local is_found, count = ids_with_a_place()
if call('HLEN', jobs) <= count + call('ZCARD', future) then
  return {now, '0'}
end
local page = call('HSCAN', jobs, cursor, 'COUNT', PAGE)
for place = 1, #page[2], 2 do
  local id = page[2][place]
  if not is_found[id] and not call('ZSCORE', future, id) then -- guard: lies nowhere
    put_back(id, page[2][place + 1])
    is_found[id] = true
  end
end
return {now, page[1]}
