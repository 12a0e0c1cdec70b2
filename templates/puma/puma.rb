# Managed by trueup: the next pass overwrites changes made here.
environment "{{ app.env.RAILS_ENV | default(value='production') }}"
if ENV["TRUEUP_PREFLIGHT"]
  # A trial start of this release beside the running puma, in one process.
  directory ENV["RELEASE_PATH"]
  bind "tcp://127.0.0.1:#{ENV["PORT"]}"
  workers 0
else
  directory "{{ root }}{{ app.deploy_to }}/current"
  bind "tcp://127.0.0.1:{{ app.port }}"
  workers {{ app.workers }}
  preload_app!
end
threads 1, {{ app.threads }}
# puma replaces a worker that is stuck in a request for longer than this.
worker_timeout 60
# nginx buffers the whole request before it connects, so a thread can read it at once. With a queue, puma closes
# the connections at a restart that it has accepted but not read yet.
queue_requests false
# A worker closes the pipe through which its main thread told it to stop. If that thread is still in its write, Ruby may
# wait for it without end, and the stop hangs: github.com/puma/puma/issues/3677. The process ends then, so it needs no close.
require "puma/server"
Puma::Server.prepend(Module.new do
  def handle_servers
    @notify.define_singleton_method(:close) {} if @notify
    super
  end
end)
{%- if app.puma_type == "notify" %}

# Puma 5 notifies systemd through the gem sd_notify, which few apps have; this replaces it. Later versions need no gem.
if ENV["NOTIFY_SOCKET"] && Puma::Const::PUMA_VERSION.to_i == 5
  begin
    require "sd_notify"
  rescue LoadError
    require "socket"
    module ::SdNotify
      def self.tell(state)
        address = Addrinfo.unix(ENV["NOTIFY_SOCKET"].sub(/\A@/, "\0"), :DGRAM)
        address.connect { |socket| socket.write(state) }
      rescue SystemCallError => error
        warn "systemd was not told #{state}: #{error.message}"
      end

      def self.ready; tell("READY=1"); end
      def self.stopping; tell("STOPPING=1"); end
      def self.reloading; tell("RELOADING=1"); end
      def self.watchdog; tell("WATCHDOG=1"); end
      def self.watchdog?; ENV.key?("WATCHDOG_USEC"); end
    end
    $LOADED_FEATURES << "sd_notify.rb"
  end
end
{%- endif %}
