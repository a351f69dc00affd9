# The application that puma runs in tests/real_servers.rs.
run lambda { |_environment|
  generation = ENV.fetch("EINHORN_GENERATION", "0")
  body = "generation #{generation}, worker #{Process.pid}\n"
  headers = { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s,
              "X-Worker" => "#{Process.pid} #{generation}" }
  [200, headers, [body]]
}
