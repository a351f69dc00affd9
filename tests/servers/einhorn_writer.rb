# Writes requests, two for each JSON string that comes in: with strings and with symbols as keys.

require "json"
require_relative "einhorn"

$stdin.each_line do |line|
  text = JSON.parse(line)
  puts Einhorn.escape(YAML.dump("id" => text, "command" => "ehlo", "user" => text))
  puts Einhorn.escape(YAML.dump(id: text, command: :ehlo, args: [text]))
end
