-- Settles the leases in sent. tasks has the task of each lease, if there are limits. settled has the settlement of each
-- lease that is not simply done, at the same position. mark is the text that follows the id in a lease of this session.
-- Returns fenced leases, leases whose job was cancelled instead of put back, the odd settlements, as events have them,
-- whether ready has more jobs, whether a job is due earlier than was known, and whether marks were removed.
local function settle(sent, tasks, settled, mark)
  local gone_leases, ended_ids, is_settled, fenced, cancelled, odd = {}, {}, {}, {}, {}, {}
  local gone_count, ended_count = 0, 0 -- the length of a table takes longer to find
  local settle_one, finish
  if has_cancels or has_limits or next(settled) then
    settle_one, finish = rare().make_settlers(sent, tasks, settled, cancelled, odd)
  end
  for number, score in ipairs(read_in_chunks('ZMSCORE', leases, sent)) do
    local lease = sent[number]
    if not score or is_settled[lease] then -- guard: fence
      fenced[#fenced + 1] = lease
      odd[number] = 'fenced'
    else
      is_settled[lease] = true
      gone_count = gone_count + 1
      gone_leases[gone_count] = lease
      local length_of_id = string.find(lease, mark, 1, true) -- nearly all leases are of this session
      local id = length_of_id and string.sub(lease, 1, length_of_id - 1) or rare().id_of(lease)
      if not settle_one or settle_one(number, id) then
        ended_count = ended_count + 1
        ended_ids[ended_count] = id
      end
    end
  end
  call_in_chunks('HDEL', jobs, ended_ids)
  call_in_chunks('ZREM', leases, gone_leases)
  if not finish then
    return fenced, cancelled, odd
  end
  return fenced, cancelled, odd, finish()
end
