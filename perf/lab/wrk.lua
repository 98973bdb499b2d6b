-- What wrk sends, and what it measured as one JSON line.
-- Words behind --: post (1 KiB up), new (a connection for each request), tokens FILE (one of its lines after the other).
local tokens, at = {}, 0

init = function(words)
   local file
   for _, word in ipairs(words) do
      if file == true then file = word
      elseif word == "post" then wrk.method, wrk.body = "POST", string.rep("x", 1024)
      elseif word == "new" then wrk.headers["Connection"] = "close"
      elseif word == "tokens" then file = true end
   end
   if file then
      for line in io.lines(file) do
         wrk.headers["Authorization"] = "Bearer " .. line
         tokens[#tokens + 1] = wrk.format()
      end
      request = function()
         at = at % #tokens + 1
         return tokens[at]
      end
   end
end

done = function(summary, latency)
   io.write(string.format(
      '@@{"units":%d,"seconds":%.6f,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50_us":%d,"p99_us":%d}\n',
      summary.requests, summary.duration / 1e6, summary.errors.connect, summary.errors.read, summary.errors.write,
      summary.errors.status, summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
