# Reads replies, one a line, in the three ways in which einhorn's clients decode a line, and says what it read in JSON.

require "json"
require_relative "einhorn"

ways = [:unescape, :unescape_all, :unescape_query]
$stdin.each_line do |line|
  read = ways.flat_map do |way|
    document = Einhorn.public_send(way, line.chomp)
    [YAML.safe_load(document), YAML.load(document)]
  end
  puts JSON.generate(read.uniq)
end
