# A worker written for einhorn: it acks and pings in YAML, says who it is, and stops on USR2.

require_relative "einhorn"

server = TCPServer.for_fd(Integer(ENV.fetch("EINHORN_FD_0")))
stopping, stop = IO.pipe
trap("USR2") { stop.close }
Einhorn.ping("50% + 1")
Einhorn.ack

threads = ThreadGroup.new
until IO.select([server, stopping]).first.include?(stopping)
  client = server.accept_nonblock(exception: false)
  next if client == :wait_readable # another worker was faster
  threads.add(Thread.new(client) do |connection|
    nil until connection.gets.to_s.chomp.empty?
    worker = "#{Process.pid} #{ENV.fetch("EINHORN_GENERATION")}"
    connection.write "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\nX-Worker: #{worker}\r\n\r\n"
    connection.close
  end)
end
threads.list.each(&:join)
