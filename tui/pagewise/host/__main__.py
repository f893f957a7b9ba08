from pagewise.host.main import main

main()
