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
