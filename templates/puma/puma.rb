# Kept by trueup: changes made here are undone by the next pass.
directory "{{ root }}{{ app.deploy_to }}/current"
environment "{{ app.env.RAILS_ENV }}"
bind "tcp://127.0.0.1:{{ app.port }}"
workers {{ app.workers }}
threads 1, {{ app.threads }}
preload_app!
# A worker that is stuck in a request gets this long before it is replaced.
worker_timeout 60
# nginx has the whole request before it asks. A thread that takes a connection reads it at once, so
# none that was accepted is closed unanswered at a restart, as puma does with those that still wait
# to be read.
queue_requests false
{%- if app.puma_type == "notify" %}

# Puma 5 tells systemd that it is up through a gem, sd_notify, that few apps have; this stands in for it. Later ones can by
# themselves.
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
