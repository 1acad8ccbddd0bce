#!lua flags=allow-oom
-- Settles leased jobs, and leases other jobs.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open wake pauses sess events progress
--        and result:<id> of each settled job that keeps its result
-- needs  chunks task_of gates notify rare settling leasing
-- rare   word_lists headers last_error lanes marks pausing parking prune_dead quarantine ends events exchange_events waiting settlements repeats
-- ARGV   session, seq, want, lease (ms), epoch that the caller knows, 1 if options follow, else 0;
--        the options: tasks that the caller does not know (their jobs are parked); tasks whose parked jobs the caller
--        wants; settled leases that have progress; how many rows of events the stream keeps, 0: there is none; name of the
--        worker; count of new rows; and these rows, as they are if all settlements change what the caller knows;
--        then the settlements in their order, in one of three forms:
--        task, count, that many leases that are done;
--        task, 0, lease, action, delay (ms), detail (of a retry: the class of its error), due (ms) and envelope of the
--        successor (a job of the same id, which takes the place of a job that ends; empty: none), ms for which the end of
--        the job is kept (0: not at all), rest of the stored end;
--        task, -1, by whom and why, then the same: the task is paused for the delay, and a retry keeps its turn
-- answer {now; the fenced leases; the leases whose job was cancelled instead of put back; the leased jobs, id and
--        envelope in turn; epoch; 1 if something is left to run}
--        If epoch is earlier than the caller's, nothing was leased. The lease of a job is <id>:<session>.<seq>
-- repeat settles and leases nothing. The session keeps its last seq for an hour at least. The answer is the same, without
--        the leases that were lost meanwhile. A late copy of an earlier call does nothing
local session, seq, want, length, known_epoch, has_options = unpack(ARGV, 1, 6)
local unknown, wanted, reported, event_rows, worker, new_rows = '', '', '', '0', '', 0
want, length, known_epoch, position = tonumber(want), tonumber(length), tonumber(known_epoch), 6
if has_options == '1' then
  unknown, wanted, reported, event_rows, worker, new_rows = unpack(ARGV, 7, 12)
  position = 12 + new_rows
end
local epoch = moment_of(stored_epoch)
local is_lost = epoch < known_epoch -- guard: lost registration
if is_lost then -- the marks of the features in use are lost as well
  has_limits, has_lanes, has_cancels, has_pauses = '1', '1', '1', '1'
end

local MEMORY = 3600000 -- the store may be away for many leases before a call is repeated
local mark = ':' .. session .. '.'
local suffix = mark .. seq

local last = call('GET', sess)
local last_seq = last and string.match(last, '^(%d+)\n[^\n]*\n[^\n]*\n')
if last_seq then
  if last_seq == seq then -- guard: sequence
    return rare().answer_again(last, suffix, wanted, epoch)
  end
  if tonumber(seq) < tonumber(last_seq) then -- guard: late call
    return {now, {}, {}, {}, epoch, 0}
  end
end

if has_cancels then
  call('HLEN', cancels)
  call('ZCARD', future)
end
if reported ~= '' then
  call('HLEN', progress)
end
if has_limits then
  call('ZCARD', slots)
  call('ZCARD', lanes)
  call('SCARD', open)
end
local sent, tasks, settled, count, result_keys, is_pausing = {}, {}, {}, 0, FIXED_KEYS, false
while position < #ARGV do
  local task, done = arg(), tonumber(arg())
  local why = done < 0 and arg()
  is_pausing = is_pausing or why
  for _ = 1, math.max(done, 1) do
    position, count = position + 1, count + 1
    sent[count] = ARGV[position]
    if has_limits then
      tasks[count] = task
    end
  end
  if done <= 0 then
    settled[count] = {task = task, action = arg(), delay = tonumber(arg()), detail = arg(), due = tonumber(arg()),
      successor = arg(), ttl = tonumber(arg()), rest = arg(), why = why}
    if settled[count].ttl > 0 then
      result_keys = result_keys + 1
      settled[count].result_key = KEYS[result_keys]
    end
  end
end
local head = call('LRANGE', ready, 0, math.min(want, CHUNK - 1)) -- one more than is leased shows whether more are left
if next(settled) then
  call('ZCARD', future)
  call('ZCARD', dead)
  call('HLEN', deadjobs)
  call('ZCARD', lanes)
end
if is_pausing then
  call('HLEN', pauses)
end
local fenced, cancelled, odd, has_more, has_earlier_retry, has_settled_marks
if count > 0 then
  fenced, cancelled, odd, has_more, has_earlier_retry, has_settled_marks = settle(sent, tasks, settled, mark)
else
  fenced, cancelled, odd = {}, {}, {}
end
if has_more then
  head = call('LRANGE', ready, 0, math.min(want, CHUNK - 1))
end
local leased_ids, leased_jobs, starts, is_something_left, has_earlier_due, has_leased_marks
local is_anything_there = #head > 0 or has_lanes or wanted ~= ''
if want > 0 and is_anything_there and not is_lost and not is_queue_paused then -- guard: paused queue
  leased_ids, leased_jobs, starts, is_something_left, has_earlier_due, has_leased_marks =
    lease_jobs(head, want, suffix, length, unknown, wanted)
else
  leased_ids, leased_jobs, starts, is_something_left = {}, {}, {}, #head > 0
end
if (has_settled_marks or has_leased_marks) and call('HLEN', cancels) == 0 then
  call('HDEL', control, ' cancels')
end
if reported ~= '' then
  call_in_chunks('HDEL', progress, rare().list_of_words(reported))
end
local leased_text = table.concat(leased_ids, ' ')
call('SET', sess, seq .. '\n' .. table.concat(fenced, ' ') .. '\n' .. table.concat(cancelled, ' ') .. '\n' ..
  leased_text, 'PX', math.max(length * 2, MEMORY))
if event_rows ~= '0' then
  rare().write_events(13, 12 + new_rows, event_rows, worker, odd, starts, leased_ids)
end
is_something_left = not is_queue_paused and (is_something_left or is_lane_to_run()) -- guard: left in a paused queue
has_earlier_due = has_earlier_due or has_earlier_retry
if has_earlier_due or is_something_left then
  notify(has_earlier_due)
end
is_something_left = is_something_left or wanted ~= '' and rare().is_wanted_left(wanted)
return {now, fenced, cancelled, leased_jobs, epoch, is_something_left and 1 or 0}
