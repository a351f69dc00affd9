# Says in JSON which workers were told to stop, with what, and how long ago.

require "json"
require_relative "einhorn"

client = Einhorn::Client.new(ARGV.fetch(0))
state = Einhorn.load(client.ask("command" => "state")["message"])[:state]
told = state[:children].reject { |_, child| child[:signaled].empty? }
puts JSON.generate(told.map { |pid, child| [pid, child[:signaled].to_a, Time.now - child[:last_signaled_at]] })
