"""CarRacing (generative thesis, section 4.9): the simulator, a scripted driver, recordings, and networks that drive.

simulator.py    the track, the car, six actions and what is seen; the only file that imports Gymnasium
expert.py       the scripted driver, which knows the track
recording.py    what the expert saw and did, episode by episode, kept on disk
driving.py      the score of any driver on any track, and the driver that is a network
"""
