-- The requests of wrk: in turn those of the file that REQUESTS names, each a line: method, path, key ("-": none).
-- Prints how often each response came: kind of request, status, problem code, "Retry-After" or "-", and the count.
local requests, sent = {}, 0
counts = {}

-- Only now is the header Host known.
init = function()
  for line in io.lines(os.getenv("REQUESTS")) do
    local method, path, key = line:match("^(%S+) (%S+) (.*)$")
    local headers = { Host = wrk.headers.Host }
    if key ~= "-" then headers["X-API-Key"] = key end
    requests[#requests + 1] = wrk.format(method, path, headers)
  end
end

request = function()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

-- The request of a response is not known here. The body of a cancel has one of these members.
response = function(status, headers, body)
  local is_cancel = body:match('"cancellationId":') or status >= 400 and body:match('"outcome":')
  local line = table.concat({
    is_cancel and "cancel" or "read", status, body:match('"code":"([%w-]+)"') or "-",
    (headers["Retry-After"] or headers["retry-after"]) and "Retry-After" or "-",
  }, " ")
  counts[line] = (counts[line] or 0) + 1
end

local threads = {}

setup = function(thread)
  threads[#threads + 1] = thread
end

done = function(summary)
  for _, thread in ipairs(threads) do
    for line, count in pairs(thread:get("counts")) do
      print("counted " .. line .. " " .. count)
    end
  end
  local errors = summary.errors
  print("errors " .. errors.connect + errors.read + errors.write + errors.timeout)
end
