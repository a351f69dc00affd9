# einhorn's protocol as its Ruby clients and workers speak it: Ruby's own YAML, and a socket.

require "set"
require "socket"
require "yaml"

module Einhorn
  # What a newer Ruby must be told to load; an older one loads everything.
  CLASSES = [Symbol, Set, Time].freeze

  def self.escape(document)
    document.gsub(/[%\n]/, "%" => "%25", "\n" => "%0A")
  end

  # As einhorn 1 does it: these two, and nothing else.
  def self.unescape(line)
    line.gsub(/%(25|0A)/, "%25" => "%", "%0A" => "\n")
  end

  # As einhorn 0.8 does it: whatever is escaped.
  def self.unescape_all(line)
    line.gsub(/%(\h\h)/) { $1.hex.chr }
  end

  # As go-einhorn does it: as in the query of a URL.
  def self.unescape_query(line)
    unescape_all(line.tr("+", " "))
  end

  def self.load(document)
    YAML.load(document, permitted_classes: CLASSES)
  rescue ArgumentError # before Psych 4 there was no such keyword
    YAML.load(document)
  end

  class Client
    def initialize(path)
      @socket = UNIXSocket.new(path)
    end

    # Sends a request; with a block, as a client that reads until nothing more follows.
    def ask(request)
      tell(request)
      reply = receive
      while reply && block_given?
        yield reply
        break unless reply["wait"]
        reply = receive
      end
      reply
    end

    def tell(request)
      @socket.write(Einhorn.escape(YAML.dump(request)) + "\n")
    end

    def receive
      line = @socket.gets or return nil
      YAML.safe_load(Einhorn.unescape(line.chomp))
    end
  end

  # As a worker acks: an answer would be an error.
  def self.ack
    client = Client.new(ENV.fetch("EINHORN_SOCK_PATH"))
    client.tell("command" => "worker:ack", "pid" => Process.pid)
    client.receive.nil? or abort "an ack was answered"
  end

  # The same with symbols as keys, as the first workers did it.
  def self.ping(word)
    client = Client.new(ENV.fetch("EINHORN_SOCK_PATH"))
    client.tell(command: "worker:ping", pid: Process.pid, request_id: word)
    client.receive.nil? or abort "a ping was answered"
  end
end
