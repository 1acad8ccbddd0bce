#!lua flags=allow-oom
-- Settles leased jobs, and leases others.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open wake sess
-- needs  chunks headers gates parking prune_dead quarantine notify settling taking
-- ARGV   session, seq, want, lease (ms), epoch that the caller knows, tasks that it does not know (their jobs are parked),
--        tasks of whose parked jobs it wants some; then what is settled, in order: task, count of its leases that are done
--        in a row, these leases; or, where the count is 0: task, 0, lease, action, delay (ms), detail, and due (ms) and
--        envelope of its successor, a job of the same id that takes its place when it ends; empty if it has none
-- answer {now, fenced leases, leases whose job was cancelled instead of put back, id and envelope of each
--        leased job in turn, epoch (if it is earlier than the caller's, nothing was leased), 1 if something is left to
--        run}. The lease of a job is called <id>:<session>.<seq>
-- repeat the session remembers its last seq for an hour at least: nothing is settled or leased again, and the answer
--        is the same but for leases that were lost meanwhile; a call before the last one, which comes late, does nothing
local session, seq, want, length, known = arg(), arg(), tonumber(arg()), tonumber(arg()), tonumber(arg())
local unknown, wanted = arg(), arg()
local current = moment_of(told_epoch)
local is_lost = current < known -- guard: lost registration
if is_lost then -- what the queue uses is lost as well
  has_limits, has_lanes, has_cancels = '1', '1', '1'
end

local MEMORY = 3600000 -- the store may be away for many leases before a call is repeated
local mark = ':' .. session .. '.'
local suffix = mark .. seq

local function envelopes_of(ids)
  local answer = {}
  for number, envelope in ipairs(looked_up('HMGET', jobs, ids)) do
    if envelope then
      answer[#answer + 1] = ids[number]
      answer[#answer + 1] = envelope
    end
  end
  return answer
end

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do
    list[#list + 1] = word
  end
  return list
end

-- Of the parked jobs that the caller wants, some may run.
local function is_wanted_left()
  for task in string.gmatch(wanted, '%S+') do
    if room_of(task) > 0 and held_back('?' .. task, 1)[1] then
      return true
    end
  end
  return false
end

local last = call('GET', sess)
local last_seq = last and string.match(last, '^(%d+)\n[^\n]*\n[^\n]*\n')
if last_seq then
  if last_seq == seq then -- guard: sequence
    local last_fenced, last_cancelled, last_taken = string.match(last, '\n([^\n]*)\n([^\n]*)\n(.*)$')
    local live, taken, names = {}, words(last_taken), {}
    for number, id in ipairs(taken) do
      names[number] = id .. suffix
    end
    for number, score in ipairs(looked_up('ZMSCORE', leases, names)) do
      if score then -- guard: repeated lease
        live[#live + 1] = taken[number]
      end
    end
    return {now, words(last_fenced), words(last_cancelled), envelopes_of(live), current,
      (something_to_run() or is_wanted_left()) and 1 or 0}
  end
  if tonumber(seq) < tonumber(last_seq) then -- guard: late call
    return {now, {}, {}, {}, current, 0}
  end
end

if has_cancels then
  call('HLEN', cancels)
  call('ZCARD', future)
end
if has_limits then
  call('ZCARD', slots)
  call('ZCARD', lanes)
  call('SCARD', open)
end
local sent, tasks, settled = {}, {}, {}
while position < #ARGV do
  local task, done = arg(), tonumber(arg())
  for _ = 1, math.max(done, 1) do
    sent[#sent + 1], tasks[#tasks + 1] = arg(), task
  end
  if done == 0 then
    settled[#sent] = {task = task, action = arg(), delay = tonumber(arg()), detail = arg(), due = tonumber(arg()),
      successor = arg()}
  end
end
local head = call('LRANGE', ready, 0, math.min(want, CHUNK - 1)) -- one more than is taken tells whether more are left
if next(settled) then
  call('ZCARD', future)
  call('ZCARD', dead)
  call('HLEN', deadjobs)
  call('ZCARD', lanes)
end
local fenced, cancelled, has_more, has_earlier_due, is_unmarked = settle(sent, tasks, settled, mark)
if has_more then
  head = call('LRANGE', ready, 0, math.min(want, CHUNK - 1))
end
local taken, leased, is_something_left, sooner, has_unmarked = {}, {}, #head > 0, false, false
if want > 0 and not is_lost then
  taken, leased, is_something_left, sooner, has_unmarked =
    take_jobs(head, want, suffix, length, unknown, wanted)
end
if (is_unmarked or has_unmarked) and call('HLEN', cancels) == 0 then
  call('HDEL', control, ' cancels')
end
call('SET', sess, seq .. '\n' .. table.concat(fenced, ' ') .. '\n' .. table.concat(cancelled, ' ') .. '\n' ..
  table.concat(taken, ' '), 'PX', math.max(length * 2, MEMORY))
is_something_left = is_something_left or something_to_run()
sooner = sooner or has_earlier_due
if sooner or is_something_left then
  notify(sooner)
end
return {now, fenced, cancelled, leased, current, (is_something_left or is_wanted_left()) and 1 or 0}
