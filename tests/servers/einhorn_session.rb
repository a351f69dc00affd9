# A client written for einhorn: greets, looks at the state, changes the pool, upgrades. What it saw goes to standard
# output, as JSON.

require "json"
require_relative "einhorn"

client = Einhorn::Client.new(ARGV.fetch(0))
seen = {}
seen[:ehlo] = client.ask("command" => "ehlo", "user" => "joe: 100% + more")
seen[:symbols] = client.ask(id: :abc, command: :ehlo, user: "joe")
seen[:inc] = client.ask("command" => "inc", "id" => "7")
seen[:unknown] = client.ask("command" => "nonsense", "args" => [])
seen[:config] = client.ask("command" => "config", "args" => [YAML.dump(number: 2, seconds: 1.5)])

seen[:upgrade] = []
client.ask("command" => "upgrade", "id" => "an id") { |reply| seen[:upgrade] << reply }

text = client.ask("command" => "state")["message"]
states = [Einhorn.load(text)]
states << YAML.unsafe_load(text) if YAML.respond_to?(:unsafe_load)
seen[:same] = states.all? { |state| state == states.first }
seen[:state] = states.first
child = states.first[:state][:children].values.find { |worker| worker[:version] == 2 }
seen[:classes] = child.transform_values { |value| value.class.name }
seen[:age] = Time.now - child[:spinup_time]
puts JSON.generate(seen)
