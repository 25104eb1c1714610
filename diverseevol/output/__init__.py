"""What leaves the program for people and their tools: terminal text, shell words and cells of spreadsheets.

Questions, answers, errors of servers, names and paths are data: whatever they hold, nothing that shows, copies or opens
them takes a part of them for an instruction. No other module prints, quotes for a shell or writes CSV.
"""
