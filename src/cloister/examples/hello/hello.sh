# What AWS's hello example prints, for as long as the enclave lives.
count=1
while true; do
  printf '[%4d] Hello from the enclave side!\n' "$count"
  count=$((count + 1))
  sleep 2
done
